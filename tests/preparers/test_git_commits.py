"""data/git_commits.py on real repositories: what is a row, what is left out, and what is said of it."""

import argparse
import json
import subprocess
from pathlib import Path

import pytest

from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.preparers.git_log import commit_rows
from llm_jepa.preparers.program import run
from tests.preparers.scripts import load_script
from tests.preparers.upstream_files import git, make_repository

DATA_SET = load_script(Path(__file__).parents[2] / "data" / "git_commits.py").DATA_SET
ALL_TO_TRAIN = ("--test_share", "0", "--validation_share", "0")


def prepare(repository: Path, output: Path, *options: str) -> tuple[list[dict], list[str]]:
    said = run(DATA_SET, ["--repository", str(repository), "--output_dir", str(output), *ALL_TO_TRAIN, *options])
    return [json.loads(line) for line in (output / "train.jsonl").read_text(encoding="utf-8").splitlines()], said


def test_a_commit_is_its_message_and_its_diff(tmp_path):
    make_repository(tmp_path / "r", [('Begin\n\nWith a body: "é" and a\ttab', "one\n"), ("Go on", "two\r\n")])
    rows, _ = prepare(tmp_path / "r", tmp_path / "out")
    assert [row["source"] for row in rows] == ["Go on", 'Begin\n\nWith a body: "é" and a\ttab']
    for row in rows:
        shown = git_output(tmp_path / "r", "show", "--format=", row["commit"])
        assert row["target"] == shown.strip("\n")
    assert "+two\r" in rows[0]["target"]


def git_output(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True).stdout.decode()


def test_what_is_no_row_is_left_out_and_counted(tmp_path):
    """Nine commits and a merge."""
    repository = tmp_path / "r"
    make_repository(
        repository,
        [
            ("First", "one\n"),
            ("Nothing changed", "one\n"),
            ("", "two\n"),
            ("Latin 1", "caf\xe9\n".encode("latin-1")),
            ("Back to ASCII", "cafe\n"),  # takes away a line that is not UTF-8
            ("Long", "long " * 400),
            ("As long again", "x\n" * 4000),
            ("NUL", "x\n" * 4000 + "\0 begins a line\n"),  # far down, so that git takes the file for a text
        ],
    )
    git(repository, "checkout", "--quiet", "-b", "side", "HEAD~1")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "On the side")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "Merge", "side")
    rows, said = prepare(repository, tmp_path / "out", "--max_diff_bytes", "1000")
    assert [row["source"] for row in rows] == ["NUL", "First"]
    assert rows[0]["target"].endswith("\n+\0 begins a line")
    assert "3 without a message or without a change" in said[0]
    assert "2 that are not UTF-8" in said[0]
    assert "2 with a diff of more than 1000 bytes left out" in said[0]


def test_a_message_with_equal_words_is_held_out_with_all_its_diffs(tmp_path):
    make_repository(tmp_path / "r", [(f"Fix {number % 20}", f"{number}\n") for number in range(40)])
    output = tmp_path / "out"
    run(DATA_SET, ["--repository", str(tmp_path / "r"), "--output_dir", str(output), "--test_share", "0.3"])
    messages = {
        path.stem: [json.loads(line)["source"] for line in path.read_text().splitlines()]
        for path in output.glob("*.jsonl")
    }
    assert all(messages[split].count(message) == 2 for split in messages for message in messages[split])
    assert sum(map(len, messages.values())) == 40


def test_a_directory_that_is_no_repository_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare(tmp_path, tmp_path / "out")
    assert f"{tmp_path} is not a git repository" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("messages", [[], ["One"]], ids=["empty", "other"])
def test_a_revision_that_is_no_commit_is_named_in_one_line(messages, tmp_path, capsys):
    """An empty repository has no HEAD yet."""
    make_repository(tmp_path / "r", [(message, "1\n") for message in messages])
    revision = "nowhere" if messages else "HEAD"
    with pytest.raises(SystemExit) as stopped:
        prepare(tmp_path / "r", tmp_path / "out", "--revision", revision)
    assert stopped.value.code == MISTAKE_STATUS
    error = capsys.readouterr().err
    assert (
        error == f"error: The repository `{tmp_path / 'r'}` has no commit `{revision}`. Give another `--revision`.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_when_git_fails_what_it_said_is_passed_on(tmp_path):
    make_repository(tmp_path / "r", [("One", "1\n")])
    with pytest.raises(ValueError, match=r"git cannot read the commits of .*nowhere"):
        list(commit_rows(tmp_path / "r", "nowhere", 1000))


GIT_SETTINGS = {
    "diff.noprefix": "true", "log.showRoot": "false", "diff.orderFile": "/nowhere", "diff.context": "0",
    "diff.algorithm": "patience", "diff.external": "false", "diff.relative": "true", "core.quotePath": "false",
    "core.abbrev": "40", "format.pretty": "oneline", "log.showSignature": "true", "color.ui": "always",
    "diff.renames": "false", "diff.suppressBlankEmpty": "true", "i18n.logOutputEncoding": "latin1",
    "diff.indentHeuristic": "false", "diff.interHunkContext": "9",
}  # fmt: skip


def test_the_users_settings_of_git_change_no_row(tmp_path, monkeypatch):
    repository = tmp_path / "r"
    make_repository(repository, [("Café", "one\n\n" + "x\n" * 20), ("Blank", "two\n\n" + "x\n" * 20 + "end\n")])
    git(repository, "mv", "file.txt", "na\u00efve.txt")
    git(repository, "commit", "--quiet", "--message", "Rename")
    rows, _ = prepare(repository, tmp_path / "out")
    assert "rename from file.txt" in rows[0]["target"]
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(GIT_SETTINGS)))
    for number, (name, value) in enumerate(GIT_SETTINGS.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", name)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    assert prepare(repository, tmp_path / "set")[0] == rows


def test_all_splits_are_of_the_commit_that_was_there_at_first(tmp_path):
    """Whatever is committed meanwhile: each split is read for itself."""
    repository = tmp_path / "r"
    make_repository(repository, [("One", "1\n"), ("Two", "2\n")])
    options = argparse.Namespace(
        repository=repository, revision="HEAD", max_diff_bytes=1000, test_share=0.1, validation_share=0.1
    )
    splits = DATA_SET.make_splits({}, options)
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Three")
    read = [row for rows in splits.values() for row in rows()]
    assert sorted(row["source"] for row in read) == ["One", "Two"]
