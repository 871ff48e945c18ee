"""`llm-jepa inspect DATA`: what a data set holds, read in bounded memory, and what the command prints."""

import json
import os
import random
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.files.text_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES
from llm_jepa.inspection.data_profile import DuplicateCounter
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from tests.inspection.profiles import profile, write
from tests.tiny import PAIRS, save_tiny_model

CHAT = [{"role": "user", "content": "digits"}, {"role": "assistant", "content": "[0-9]"}]


def test_rows_without_a_view_and_duplicates_are_counted_and_named(tmp_path):
    good = [{"question": f"q{i}", "answer": f"a{i}", "id": i} for i in range(1500)]
    bad = [{"question": "q", "answer": None, "id": -1}, {"question": " ", "answer": "a", "id": -2}, {"id": -3}]
    again = [good[3] | {"id": -4}, good[0]]
    found = profile(write(tmp_path / "data.jsonl", [*good, *bad, *again]))
    assert found.num_rows == 1505
    assert [(index, reason.partition(" is null")[0].partition(" holds")[0]) for index, reason in found.refusals] == [
        (1500, "column 'answer'"), (1501, "the source is empty."), (1502, "column 'question'"),
    ]  # fmt: skip
    assert (found.num_refused, found.duplicate_rows.num_duplicates, found.duplicate_pairs.num_duplicates) == (3, 1, 2)
    assert sum(found.fields["answer"].types.values()) == 1503


@pytest.mark.parametrize("at", [0, 1400])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"question": "caf\xe9", "answer": "a"}', "is not UTF-8"),
        (b'{"question": ', "not JSON"),
        (b"[1]", "an object"),
    ],
)
def test_a_line_that_is_none_is_named_wherever_it_stands(at, line, message, tmp_path):
    lines = [json.dumps({"question": f"q{i}", "answer": "a"}).encode() for i in range(1500)]
    lines[at] = line
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=rf"line {at + 1}: .*{message}"):
        profile(path)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_training_on_a_stream_names_the_line_at_which_it_ends(suffix, tmp_path):
    """A file of any size is not read beforehand, so that the line is met in training; checkpoints are kept."""
    save_tiny_model(tmp_path / "model")
    rows = [b'{"question": "q", "answer": "a"}' if suffix == "jsonl" else b"q,a"] * 300
    rows[200] = rows[200].replace(b"q", b"caf\xe9", 1) if suffix == "csv" else rows[200].replace(b'"a"', b'"\xe9"')
    data = tmp_path / f"data.{suffix}"
    data.write_bytes(b"\n".join([b"question,answer"] * (suffix == "csv") + rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model_name_or_path: {tmp_path / 'model'}\ndataset_name: {data}\noutput_dir: {tmp_path / 'out'}\n"
        "source_column: question\ntarget_column: answer\nmax_steps: 100\ndataset_streaming: true\nuse_cpu: true\n"
        "bf16: false\nreport_to: none\nsave_steps: 2\ndisable_tqdm: true\njepa_layout: rows\n"
    )
    line = 201 + (suffix == "csv")
    with pytest.raises(ValueError, match=rf"data\.{suffix}`, line {line}: byte \d+ of the file is not UTF-8"):
        train(parse_recipe([str(recipe)]))


def test_only_the_rows_asked_for_are_read(tmp_path):
    lines = [json.dumps({"question": f"q{i}", "answer": "a"}).encode() for i in range(100)]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join([*lines, b'{"question": "caf\xe9", "answer": "a"}']))
    found = profile(path, max_rows=5)
    assert (found.num_rows, found.is_partial) == (5, True)
    with pytest.raises(ValueError, match="`max_rows` is 0"):
        profile(path, max_rows=0)


# --- bounded memory


@settings(max_examples=30)
@given(items=st.lists(st.integers(0, 40), max_size=120))
def test_duplicates_are_exact_up_to_the_limit(items):
    counter = DuplicateCounter(max_hashes=41)
    for item in items:
        counter.add(item)
    assert (counter.num_duplicates, counter.is_estimate) == (len(items) - len(set(items)), False)


def test_beyond_the_limit_duplicates_are_estimated_from_a_bounded_sample():
    """20,000 different items, each twice: the standard error of a sample of 500 to 1000 of them is below 5 %."""
    counter = DuplicateCounter(max_hashes=1000)
    items = [i % 20_000 for i in range(40_000)]
    random.Random(0).shuffle(items)
    for item in items:
        counter.add(item)
        assert len(counter._counts) <= 1000
    assert counter.is_estimate
    assert counter.num_duplicates == pytest.approx(20_000, rel=0.15)


PEAKS = """
import resource, sys
from trl import ScriptArguments
from llm_jepa.inspection.data_profile import profile_data
for path in sys.argv[1:]:
    profile_data(ScriptArguments(dataset_name=path))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_file_of_any_size_is_read_in_the_memory_of_a_small_one(tmp_path):
    """Peak memory of a process: a file of 192 MB takes some buffers more than one of 32 MB, not its size."""
    paths = [tmp_path / "small.jsonl", tmp_path / "large.jsonl"]
    for path, num_rows in zip(paths, (1000, 6000), strict=True):
        with path.open("w") as file:
            for i in range(num_rows):
                file.write(f'{{"question": "{i}{"q" * 16_000}", "answer": "{i}{"a" * 16_000}"}}\n')
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PEAKS, *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    small_kb, large_kb = map(int, done.stdout.split())
    assert large_kb - small_kb < 60_000


@pytest.mark.parametrize(
    ("name", "num_bytes", "message"),
    [
        ("one.jsonl", MAX_LINE_BYTES + 1, f"line 1: longer than {MAX_LINE_BYTES} bytes"),
        ("one.json", MAX_DOCUMENT_BYTES + 1, f"is one JSON document of more than {MAX_DOCUMENT_BYTES} bytes"),
    ],
)
def test_what_would_be_held_whole_is_refused_before_that(name, num_bytes, message, tmp_path):
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, num_bytes)  # a sparse file: no disk is used
    with pytest.raises(ValueError, match=message):
        profile(tmp_path / name)


@pytest.mark.parametrize("first", ['[{"question"', "[\n{", "\n[{"])
def test_a_document_may_have_longer_lines_than_a_file_of_lines(first, tmp_path, monkeypatch):
    """Such a file is read into memory completely."""
    monkeypatch.setattr("llm_jepa.data.loading.MAX_LINE_BYTES", 20)
    rows = [{"question": f"q{i}", "answer": "a" * 40} for i in range(3)]
    text = json.dumps(rows)
    (tmp_path / "data.json").write_text(text.replace('[{"question"', first + '"question"' * first.endswith("{"), 1))
    assert profile(tmp_path / "data.json").num_rows == 3
    with pytest.raises(ValueError, match="line 1: longer than 20 bytes"):
        profile(write(tmp_path / "data.jsonl", rows))


# --- the command


def test_a_data_set_of_the_hub_is_inspected_by_its_id(hub, capsys, monkeypatch, tmp_path):
    rows = [{"id": i, "question": pair["source"], "answer": pair["target"]} for i, pair in enumerate(PAIRS)]
    files = {"data/train.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}
    hub.add("team/pairs", files, kind="datasets")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "team/pairs", "--rows", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"rows: {len(PAIRS)}" in printed
    assert "dataset_name: team/pairs\nsource_column: question\ntarget_column: answer\n" in printed


def test_the_command_prints_lines_that_a_recipe_takes(tmp_path, capsys):
    rows = [{"question": {"text": f"q{i}"}, "answer": {"text": f"a{i}"}, "year": 7} for i in range(3)]
    path = write(tmp_path / "data.jsonl", [*rows, {"question": {"text": "q"}, "answer": {"text": None}, "year": 7}])
    assert main(["inspect", str(path), "--rows", "1"]) == 0
    printed = capsys.readouterr().out
    assert "row 3: field 'answer.text' is null or empty" in printed
    assert "rows: 4" in printed
    pasted = yaml.safe_load(printed[printed.index("dataset_name:") :])
    assert pasted == {"dataset_name": str(path), "source_column": "question.text", "target_column": "answer.text"}


def test_when_every_row_is_refused_that_is_said_first(tmp_path, capsys):
    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in CHAT]
    path = write(tmp_path / "data.jsonl", [{"messages": parts}] * 3)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("training would refuse every row: row 0: the source is list, not a string. Join")
    assert "no proposal: every row is refused" in printed
    assert "dataset_name:" not in printed
    write(path, [{"messages": parts}, {"messages": CHAT}])
    main(["inspect", str(path)])
    assert "dataset_name:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere.jsonl"], "There is no file or directory `nowhere.jsonl`"),
        (["data.jsonl", "--learning_rate", "1"], "`learning_rate` has no effect on data alone"),
        (["recipe.yaml", "--max_rows", "3"], "`--max_rows` has no effect on a recipe"),
    ],
)
def test_a_mistake_ends_the_command_in_a_line(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "recipe.yaml").write_text("model_name_or_path: model\ndataset_name: data.jsonl\n")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *argv])
    assert ended.value.code == MISTAKE_STATUS
    assert message in capsys.readouterr().err
