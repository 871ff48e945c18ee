"""Reads the commits of a git repository as rows: the message and the diff of each.

It uses git's plumbing commands, so that a user's configuration does not change the rows.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from llm_jepa.preparers.splits import LeftOut, Row

READ_BYTES = 65_536
# No line of a message or of a diff can begin with NUL.
HEADER, END_OF_MESSAGE = b"\0", b"\0\n"
GIT_SETTINGS = {  # settings that the commands below would read from the user's configuration
    "core.abbrev": "auto",
    "core.attributesFile": os.devnull,
    "core.quotePath": "true",
    "diff.suppressBlankEmpty": "false",
}
DIFF_COMMAND = (
    "diff-tree", "--stdin", "--always", "--root", "--patch", "--unified=3", "--find-renames", "-l1000",
    "--indent-heuristic", "--no-color", "--no-ext-diff", "--no-textconv", "--no-notes", "--encoding=UTF-8",
    "--format=format:%x00%H%n%B%n%x00",
)  # fmt: skip


def resolved_commit(repository: Path, revision: str) -> str:
    """The id of the commit that a revision refers to now.

    Raises:
        ValueError: The revision does not exist.
    """
    command = [*_git(repository), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"The repository `{repository}` has no commit `{revision}`. Give another `--revision`.")
    return done.stdout.split()[-1]


def commit_rows(repository: Path, commit: str, max_diff_bytes: int) -> Iterator[Row | LeftOut]:
    """A commit and its ancestors as rows, the latest first, without merges.

    Raises:
        ValueError: git fails; the message ends with git's own.
    """
    names = [*_git(repository), "rev-list", "--no-merges", commit, "--"]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(names, stdout=subprocess.PIPE, stderr=said) as listing,
        subprocess.Popen(
            [*_git(repository), *DIFF_COMMAND], stdin=listing.stdout, stdout=subprocess.PIPE, stderr=said
        ) as diffs,
    ):
        assert listing.stdout is not None
        assert diffs.stdout is not None
        listing.stdout.close()  # `diffs` reads it; the listing ends when `diffs` does
        yield from parse_commits(diffs.stdout, max_diff_bytes)
        if diffs.wait() or listing.wait():
            said.seek(0)
            raise ValueError(f"git cannot read the commits of `{repository}`: {said.read().decode(errors='replace')}")


def parse_commits(log: IO[bytes], max_diff_bytes: int) -> Iterator[Row | LeftOut]:
    """Parse the output of DIFF_COMMAND. Only the beginning of a diff that is too long is held in memory."""
    name, message, diff = b"", b"", b""
    in_message = is_line_start = True
    while piece := log.readline(READ_BYTES):
        if is_line_start and in_message and piece == END_OF_MESSAGE:
            in_message = False
        elif is_line_start and not in_message and piece.startswith(HEADER):
            yield _commit_row(name, message, diff, max_diff_bytes)
            name, message, diff, in_message = piece[1:].strip(), b"", b"", True
        elif is_line_start and piece.startswith(HEADER):
            name = piece[1:].strip()
        elif in_message:
            message += piece
        elif len(diff) <= max_diff_bytes:
            diff += piece
        is_line_start = piece.endswith(b"\n")
    if name:
        yield _commit_row(name, message, diff, max_diff_bytes)


def _commit_row(name: bytes, message: bytes, diff: bytes, max_diff_bytes: int) -> Row | LeftOut:
    diff = diff.strip(b"\n")
    if len(diff) > max_diff_bytes:
        return LeftOut(f"with a diff of more than {max_diff_bytes} bytes")
    try:
        row = {"source": message.decode().strip(), "target": diff.decode(), "commit": name.decode()}
    except UnicodeDecodeError:
        return LeftOut("that are not UTF-8")
    if not row["source"] or not row["target"].strip():
        return LeftOut("without a message or without a change")
    return row


def _git(repository: Path) -> list[str]:
    settings = [part for name, value in GIT_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    return ["git", "-C", str(repository), *settings]
