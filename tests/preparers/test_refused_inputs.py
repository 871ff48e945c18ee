"""What a preparer refuses, skips on demand or counts, and that nothing is written then."""

import subprocess
import sys

import pytest

from llm_jepa.preparers.program import run
from tests.preparers.prepared_sets import DATA, SCRIPTS, prepare, read
from tests.preparers.upstream_files import (
    SAMPLES,
    sample,
    write_jsonl,
)


def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare("translation", tmp_path, "--test_share", "0.7", "--validation_share", "0.3")
    assert "each must be 0 or more, and their sum below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"question": "Why?"}\n', "line 31: incomplete: there is no column 'answer' among ['question']."),
        (b'{"question": " ", "answer": "#### 1"}\n', "line 31: incomplete: the column 'question' is empty."),
        (b'{"question": "Caf\xe9?", "answer": "#### 1"}\n', "line 31: byte 17012 of the file is not UTF-8"),
        (b'{"question": "Wh', "line 31: not JSON: Unterminated string"),
    ],
)
def test_a_bad_line_ends_the_run_and_nothing_is_written(tmp_path, capsys, line, message):
    real = (SAMPLES / "gsm8k.jsonl").read_bytes()
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(real + (line if split == "train" else b""))
    before = sorted(tmp_path.iterdir())
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    with pytest.raises(SystemExit) as stopped:
        run(SCRIPTS["gsm8k"].DATA_SET, arguments)
    assert stopped.value.code == 2
    assert f"error: `{tmp_path / 'train.jsonl'}`, {message}" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_incomplete_rows_are_skipped_on_demand_and_named(tmp_path):
    rows = sample("gsm8k")
    write_jsonl(tmp_path / "train.jsonl", [*rows[:20], {"question": "Why?"}, *rows[20:24]])
    write_jsonl(tmp_path / "test.jsonl", rows[24:])
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    said = "\n".join(run(SCRIPTS["gsm8k"].DATA_SET, [*arguments, "--skip_incomplete"]))
    assert f"1 incomplete (`{tmp_path / 'train.jsonl'}`, line 21)" in said
    assert len(read(tmp_path / "out", "train") + read(tmp_path / "out", "validation")) == 24
    assert "--unchecked --skip_incomplete" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_finished_set_is_prepared_again_in_its_place(tmp_path):
    """Of all preparers this one writes the most."""
    output, said = prepare("spider", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    arguments = ["--output_dir", str(output), "--input_dir", str(tmp_path / "in"), "--unchecked"]
    assert "\n".join(run(SCRIPTS["spider"].DATA_SET, arguments)) == said
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def test_a_directory_with_other_files_is_refused_before_the_inputs_are_looked_for(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        run(SCRIPTS["gsm8k"].DATA_SET, ["--input_dir", "nowhere", "--output_dir", str(tmp_path)])
    assert f"output_dir {tmp_path} holds files that this run does not write: notes.txt." in capsys.readouterr().err


def test_the_numbers_of_what_came_and_what_was_left_out_add_up(tmp_path):
    """29 rows: 24 to learn from, one that came twice, one that is tested, and three incomplete."""
    rows = sample("gsm8k")
    write_jsonl(tmp_path / "train.jsonl", [*rows[:24], rows[0], rows[24], *[{"question": "Why?"}] * 3])
    write_jsonl(tmp_path / "test.jsonl", rows[24:])
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    train, *_ = [
        line for line in run(SCRIPTS["gsm8k"].DATA_SET, [*arguments, "--skip_incomplete"]) if "train:" in line
    ]
    validated = len(read(tmp_path / "out", "validation"))
    assert train.startswith(
        f"train: {24 - validated} of {29 - validated} rows, 1 left out that overlap with test, 1 rep"
    )
    assert "3 incomplete" in train
    assert "3 of these left out before the split; sha256" in train
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| train | {29 - validated} | {24 - validated} | 1 | 1 with test | 3 | 0 |" in card
    assert "3 rows were left out before the split; they are counted with `train`." in card


def test_other_files_than_the_published_ones_are_refused(tmp_path, capsys):
    arguments = ["--input_dir", str(SAMPLES), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        run(SCRIPTS["nl_rx_synth"].DATA_SET, arguments)
    error = capsys.readouterr().err
    assert "synth_train.jsonl` is not the published file: its checksum is sha256:" in error
    assert ", not sha256:ca959f10" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["gsm8k", "yelp", "spider"])
def test_without_a_network_the_files_their_places_and_the_option_are_named(name, tmp_path):
    environment = {"https_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    environment |= {"LLM_JEPA_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(DATA.parent)}
    done = subprocess.run(
        [sys.executable, str(DATA / f"{name}.py"), "--output_dir", str(tmp_path / "out")],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Without a network: put `" in done.stderr
    assert "into a directory, and give it as `--input_dir`" in done.stderr
    for file in SCRIPTS[name].DATA_SET.files.values():
        assert f"`{file.name}` from https://" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("cache", "hub")) == []
