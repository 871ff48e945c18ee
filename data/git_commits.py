"""Prepares the commits of a git repository: messages and diffs.

    python data/git_commits.py --output_dir DIR --repository PATH [--max_diff_bytes 8192]

Streams the commits three times; the user's git configuration has no effect. Merges are left out. Commits without a
message or a change, with a longer diff, or with a diff that is not UTF-8 are left out and counted. `jepa_direction:
target_to_source` predicts the message.
"""

import argparse
import subprocess
from pathlib import Path

from llm_jepa.preparers.data_set import DataSet, Inputs, add_share_arguments, split_at_random
from llm_jepa.preparers.git_log import commit_rows, resolved_commit
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import Splits, by_either_view


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    commit = resolved_commit(options.repository, options.revision)  # resolved once, so all splits are of one commit
    return split_at_random(
        lambda: commit_rows(options.repository, commit, options.max_diff_bytes),
        options,
        key=lambda row: row["source"],
    )


def repository(path: str) -> Path:
    """An argument of the command line that must be a git repository."""
    command = ["git", "-C", path, "rev-parse", "--git-dir"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        raise argparse.ArgumentTypeError(f"{path} is not a git repository; give the path of one")
    return Path(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=repository, required=True, help="a checkout or a bare repository")
    parser.add_argument("--revision", default="HEAD", help="take this commit and its ancestors (default HEAD)")
    parser.add_argument("--max_diff_bytes", type=int, default=8192, help="longer diffs are left out (default 8192)")
    add_share_arguments(parser)


DATA_SET = DataSet(
    name="git_commits",
    title="Git commits",
    description="Messages of commits, and their changes as unified diffs.",
    source="your own git repository.",
    licence="unknown",
    licence_text="the licence of the repository; correct this line and the header.",
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
