"""data/nl_rx_synth.py: splits of which no two share a source or a target, in one schema."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "data" / "nl_rx_synth.py"
nl_rx_synth = load_script(SCRIPT)
Pair = nl_rx_synth.Pair


def line(source: str, target: str) -> str:
    messages = [("system", "Convert."), ("user", source), ("assistant", target)]
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]})


def test_overlap_is_by_source_or_by_target():
    seen = [Pair("a", "1"), Pair("b", "2")]
    pairs = [Pair("a", "9"), Pair("z", "2"), Pair("c", "3"), Pair("c", "3")]
    assert nl_rx_synth.without_overlap(pairs, seen) == [Pair("c", "3"), Pair("c", "3")]


def test_no_two_splits_share_a_source_or_a_target():
    train = [Pair(f"s{i}", f"t{i // 2}") for i in range(1200)]  # every target twice
    test = [Pair(f"s{i}", f"u{i}") for i in range(1100, 1300)] + [Pair("new", "t7"), Pair("newer", "u")]
    splits = nl_rx_synth.split(train, test)
    names = ["train", "validation", "test"]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        for column in (0, 1):
            texts = [{pair[column] for pair in splits[names[number]]} for number in (first, second)]
            assert not texts[0] & texts[1]
    assert len(splits["train"]) == 700
    assert 0 < len(splits["validation"]) < 500, "dev rows with a target of the training rows are left out"
    # s1100 to s1199 are training sources, unless they stood in the dev rows that were left out.
    assert {Pair(f"s{i}", f"u{i}") for i in range(1200, 1300)} | {Pair("newer", "u")} <= {*splits["test"]}
    assert nl_rx_synth.split(train, test) == splits


def test_a_line_that_is_no_conversation_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(line("lines", ".*") + "\n" + json.dumps({"messages": [{"role": "user", "content": "x"}]}) + "\n")
    with pytest.raises(ValueError, match="line 2: no conversation"):
        nl_rx_synth.read_pairs(path)


def test_the_command_writes_three_splits(tmp_path):
    rows = {"train": 8000, "test": 2000}
    for name, number in rows.items():
        lines = [line(f" {name} {i} ", f"{name}{i}") for i in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    command = [sys.executable, str(SCRIPT), "--train", "train.jsonl", "--test", "test.jsonl", "--output_dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    counts = {path.stem: len(path.read_text().splitlines()) for path in (tmp_path / "out").glob("*.jsonl")}
    assert counts == {"train": 7500, "validation": 500, "test": 2000}
    assert json.loads((tmp_path / "out" / "test.jsonl").read_text().splitlines()[0]) == {
        "source": "test 0",
        "target": "test0",
    }
    assert "left out of test: 0 rows" in done.stdout


def test_files_of_another_size_are_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text(line("a", "b"))
    command = [sys.executable, str(SCRIPT), "--train", "rows.jsonl", "--test", "rows.jsonl", "--output_dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected 8000 and 2000 rows, found 1 and 1" in done.stderr
