"""A directory is there whole or not at all, and what was there before is never changed."""

from pathlib import Path

import pytest

from llm_jepa.files.staged import staged_directory
from tests.preparers.rights import without_roots_rights


def write(output, files):
    with staged_directory(output, MAY_WRITE) as staging:
        for name, text in files.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text(text)


def contents(directory):
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


MAY_WRITE = ("train.jsonl", "database/*.sqlite")
FILES = {"train.jsonl": "1", "database/a.sqlite": "2"}


def test_the_directory_appears_when_all_is_written(tmp_path):
    output = tmp_path / "new" / "out"
    with staged_directory(output) as staging:
        (staging / "train.jsonl").write_text("1")
        assert not output.exists()
    assert contents(output) == {"train.jsonl": "1"}
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    (tmp_path / "like").mkdir()
    assert output.stat().st_mode == (tmp_path / "like").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_is_left(tmp_path, error):
    def fail():
        with staged_directory(tmp_path / "out") as staging:
            (staging / "train.jsonl").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled_and_a_finished_one_is_completed(tmp_path):
    write(tmp_path, FILES)
    assert contents(tmp_path) == FILES
    (tmp_path / "database" / "a.sqlite").unlink()
    write(tmp_path, FILES)
    assert contents(tmp_path) == FILES


@pytest.mark.parametrize("name", ["train.jsonl", "database/b.sqlite"])
def test_other_contents_are_not_changed(tmp_path, name):
    """The second is a file that such a run may write, and that this one did not."""
    output = tmp_path / "out"
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text("mine")
    with pytest.raises(
        ValueError, match=f"holds files with other contents than this run wrote: {name}. Nothing was changed"
    ):
        write(output, FILES)
    assert contents(tmp_path) == {f"out/{name}": "mine"}


@pytest.mark.parametrize("name", ["notes.txt", "more/train.jsonl", "database/a.txt"])
def test_what_is_never_written_is_refused_before_the_work(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds files that this run does not write: {name}. Nothing was changed"):
        staged_directory(tmp_path, MAY_WRITE).__enter__()
    assert contents(tmp_path) == {name: "mine"}


def test_an_empty_directory_may_be_the_one_that_this_is(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path("."), FILES)
    write(Path("."), FILES)
    assert contents(tmp_path) == {f"here/{name}": text for name, text in FILES.items()}


@pytest.mark.parametrize("name", ["file/out", "file/deep/out", "file"])
def test_a_directory_that_cannot_be_made_is_named(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=f"output_dir {tmp_path / name} (cannot be made|is a file)"):
        write(tmp_path / name, FILES)
    assert contents(tmp_path) == {"file": "mine"}


@pytest.mark.parametrize(("is_there", "verb"), [(False, "made"), (True, "written")])
def test_a_directory_that_may_not_be_written_is_refused_before_the_work(tmp_path, is_there, verb):
    forbidden = tmp_path / "forbidden"
    output = forbidden if is_there else forbidden / "out"
    forbidden.mkdir(mode=0o555)
    with (
        without_roots_rights(),
        pytest.raises(ValueError, match=f"{output} cannot be {verb}: Permission denied: .*; name another directory"),
    ):
        staged_directory(output).__enter__()
    assert list(forbidden.iterdir()) == []


def test_a_directory_that_is_there_needs_no_right_to_its_parent(tmp_path):
    """As on a volume that is mounted."""
    output = tmp_path / "volume" / "out"
    output.mkdir(parents=True)
    output.parent.chmod(0o555)
    with without_roots_rights():
        write(output, FILES)
        write(output, FILES)
    assert contents(output) == FILES
