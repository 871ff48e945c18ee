"""Prepares the commits of a git repository: what a message says, and what its commit changes.

    python data/git_commits.py --output_dir DIR --repository PATH [--max_diff_bytes 8192]

Reads the commits three times, as a stream, whatever git is configured to show. Merges are left out, and so are commits
without a message or a change, with a longer diff, or with one that is not UTF-8; each is counted. `jepa_direction:
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
    commit = resolved_commit(options.repository, options.revision)  # once, and all splits are of it
    return split_at_random(
        lambda: commit_rows(options.repository, commit, options.max_diff_bytes),
        options,
        key=lambda row: row["source"],
    )


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
