"""Prepares the commits of a git repository: what a message says, and what its commit changes.

    python data/git_commits.py --output_dir DIR --repository PATH [--max_diff_bytes 8192]

Reads `git log`, three times, as a stream. Merges are left out, and so are commits without a message or a change, with
a longer diff, or with one that is no UTF-8; each is counted. `jepa_direction: target_to_source` predicts the message.
"""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from llm_jepa.preparers.data_set import DataSet, Inputs, add_share_arguments, split_at_random
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import LeftOut, Row, Rows, Splits, by_either_view

PIECE_BYTES = 65_536
# A line that begins with NUL can stand in no message, and in no diff, whose lines begin with another character.
HEADER, END_OF_MESSAGE = b"\0", b"\0\n"
LOG = (
    "log",
    "--no-merges",
    "--patch",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--format=format:%x00%H%n%B%n%x00",
)


def commits(log: IO[bytes], max_diff_bytes: int) -> Iterator[Row | LeftOut]:
    """The commits of a log as rows. Of a longer diff only the beginning is held."""
    name, message, diff = b"", b"", b""
    in_message = is_line_start = True
    while piece := log.readline(PIECE_BYTES):
        if is_line_start and in_message and piece == END_OF_MESSAGE:
            in_message = False
        elif is_line_start and not in_message and piece.startswith(HEADER):
            yield commit_row(name, message, diff, max_diff_bytes)
            name, message, diff, in_message = piece[1:].strip(), b"", b"", True
        elif is_line_start and piece.startswith(HEADER):
            name = piece[1:].strip()
        elif in_message:
            message += piece
        elif len(diff) <= max_diff_bytes:
            diff += piece
        is_line_start = piece.endswith(b"\n")
    if name:
        yield commit_row(name, message, diff, max_diff_bytes)


def commit_row(name: bytes, message: bytes, diff: bytes, max_diff_bytes: int) -> Row | LeftOut:
    diff = diff.strip(b"\n")
    if len(diff) > max_diff_bytes:
        return LeftOut(f"with a diff of more than {max_diff_bytes} bytes")
    try:
        row = {"source": message.decode().strip(), "target": diff.decode(), "commit": name.decode()}
    except UnicodeDecodeError:
        return LeftOut("that are no UTF-8")
    if not row["source"] or not row["target"].strip():
        return LeftOut("without a message or without a change")
    return row


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def rows() -> Rows:
        command = ["git", "-C", str(options.repository), *LOG, options.revision, "--"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield from commits(process.stdout, options.max_diff_bytes)
        if process.returncode:
            raise SystemExit(f"git_commits.py: {' '.join(command)} failed with status {process.returncode}")

    return split_at_random(rows, options, key=lambda row: row["source"])


def repository(path: str) -> Path:
    """A directory that git takes for a repository."""
    command = ["git", "-C", path, "rev-parse", "--git-dir"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        raise argparse.ArgumentTypeError(f"{path} is no git repository")
    return Path(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=repository, required=True, help="a checkout or a bare repository")
    parser.add_argument("--revision", default="HEAD", help="the commits that lead up to it (default HEAD)")
    parser.add_argument("--max_diff_bytes", type=int, default=8192, help="longer diffs are left out (default 8192)")
    add_share_arguments(parser)


DATA_SET = DataSet(
    name="git_commits",
    title="Git commits",
    description="Messages of commits, and the changes that they describe, as unified diffs.",
    source="a git repository of your own.",
    licence="unknown",
    licence_text="that of the repository; correct this line and the header.",
    columns={"source": "the commit's message", "target": "its diff", "commit": "its id"},
    make_splits=make_splits,
    overlap=by_either_view,
    overlap_text="a message or a diff",
    languages=(),
    add_arguments=add_arguments,
    settings=("revision", "max_diff_bytes", "test_share", "validation_share"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
