"""Preparers that are killed, terminated or out of room at work, in processes of their own; none leaves a thing."""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_jepa.entry import MISTAKE_STATUS, cleaned_up_at_sigterm
from llm_jepa.files.staged import staged_directory
from llm_jepa.preparers.program import prepare
from tests.preparers.rights import without_roots_rights
from tests.preparers.scripts import load_script

ROOT = Path(__file__).parents[2]
PREPARER = """
import sys, time
from llm_jepa.preparers.data_set import DataSet
from llm_jepa.preparers.program import run

def rows():
    yield {"source": "a", "target": "b"}
    print("at work", flush=True)
    time.sleep(600)

about = dict.fromkeys(("name", "title", "description", "source", "licence", "licence_text"), "")
run(DataSet(**about, columns={}, make_splits=lambda *_: {"train": rows}), ["--output_dir", sys.argv[1]])
"""


@contextmanager
def at_work(output: Path, program: str = PREPARER) -> Iterator[subprocess.Popen]:
    """A preparer's process that has written a row, and prepares for ever."""
    arguments = [sys.executable, "-c", program, str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"at work\n"
            yield process
        finally:
            process.kill()


def partial(directory: Path) -> list[Path]:
    return list(directory.glob(".out-partial-*"))


def write(output: Path) -> None:
    with staged_directory(output) as staging:
        (staging / "train.jsonl").write_text("1")


@pytest.mark.parametrize("is_there", [False, True])
def test_what_a_killed_run_leaves_is_removed_by_the_next_one(tmp_path, is_there, caplog):
    output = tmp_path / "out"
    if is_there:
        output.mkdir()
    with at_work(output) as process:
        process.kill()
    (left,) = partial(output if is_there else tmp_path)
    write(output)
    assert list(tmp_path.iterdir()) == [output]
    assert [path.name for path in output.iterdir()] == ["train.jsonl"]
    assert f"{left} was left by a killed run; removing it." in caplog.text


@pytest.mark.parametrize("is_there", [False, True])
def test_what_a_run_writes_that_is_alive_is_not_removed(tmp_path, is_there):
    output = tmp_path / "out"
    if is_there:
        output.mkdir()
    with at_work(output):
        (alive,) = partial(output if is_there else tmp_path)
        files = sorted(alive.rglob("*"))
        write(output)
        assert sorted(alive.rglob("*")) == files
    assert (output / "train.jsonl").read_text() == "1"


def test_what_only_has_such_a_name_is_not_removed(tmp_path):
    (tmp_path / ".out-partial-results").mkdir()
    write(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out-partial-results", "out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_leaves_nothing(tmp_path, number):
    with at_work(tmp_path / "out") as process:
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_the_preparer_that_generates_its_rows_leaves_nothing_either(tmp_path):
    arguments = ["--output_dir", str(tmp_path / "out"), "--num_train", "19000", "--num_test", "1000"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "data" / "nl_rx.py"), *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        while not partial(tmp_path):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_sigterm_is_handled_as_before_when_the_work_is_over():
    before = signal.getsignal(signal.SIGTERM)
    with cleaned_up_at_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_disk_that_is_full_is_named_in_one_line(tmp_path):
    """Shown by a limit to the size of a file: the first has 1,900,000 bytes."""
    (tmp_path / "pairs.tsv").write_text("".join(f"{number:09}\t{'x' * 150}\n" for number in range(10_000)))
    arguments = ["--tsv_file", str(tmp_path / "pairs.tsv"), "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "data" / "translation.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.stderr == f"error: output_dir {tmp_path / 'out'} has no space left: File too large; free some\n"
    assert done.returncode == MISTAKE_STATUS
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.tsv"]


def test_an_input_that_may_not_be_read_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "train.jsonl").touch(mode=0o000)
    (tmp_path / "test.jsonl").touch()
    gsm8k = load_script(ROOT / "data" / "gsm8k.py").DATA_SET
    options = {"output_dir": tmp_path / "out", "input_dir": tmp_path, "unchecked": True, "skip_incomplete": False}
    with without_roots_rights(), pytest.raises(PermissionError) as raised:
        prepare(gsm8k, argparse.Namespace(**options))
    assert raised.value.filename == str(tmp_path / "train.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.jsonl", "train.jsonl"]
