"""`llm-jepa inspect DATA`: what a data set holds and how to map it, read in bounded memory."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import ScriptArguments

from llm_jepa import JEPAConfig
from llm_jepa.cli import main
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import ColumnMapping, to_rows
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.files.text_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES
from llm_jepa.inspection.data_profile import DataProfile, DuplicateCounter, field_kind, profile_data, walk_fields
from llm_jepa.inspection.mapping_proposal import propose_mapping
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from tests.tiny import PAIRS, save_tiny_model

CHAT = [{"role": "user", "content": "digits"}, {"role": "assistant", "content": "[0-9]"}]
SHARE = [{"from": "human", "value": "digits"}, {"from": "gpt", "value": "[0-9]"}]
SHARE_VIEWS = (
    "{{ (chat | selectattr('from', 'in', ['human', 'user']) | first).value }}",
    "{{ (chat | selectattr('from', 'in', ['gpt', 'assistant', 'model']) | first).value }}",
)
OWN_VIEWS = {"source_view_column": "text", "target_view_column": "code"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def profile(path: Path, **options) -> DataProfile:
    return profile_data(ScriptArguments(dataset_name=str(path)), **options)


# --- the proposal


@pytest.mark.parametrize(
    ("row", "expected", "is_certain"),
    [
        ({"id": "a", "question": "q", "answer": "a"}, ("question", "answer"), True),
        ({"Problem": "q", "level": 3, "Solution": "a"}, ("Problem", "Solution"), True),
        ({"x": {"question": "q"}, "answer": "a"}, ("x.question", "answer"), True),
        ({"example": {"question": {"text": "q"}}, "sql": "a"}, ("example.question.text", "sql"), True),
        (
            {"id": 1, "example": {"q": {"text": "q"}, "a": [{"text": "a"}]}},
            ("example.q.text", "example.a.0.text"),
            False,
        ),
        ({"question": "q", "answers": {"text": ["a", "b"], "start": [1]}}, ("question", "answers.text.0"), False),
        ({"translation": {"de": "q", "en": "a"}}, ("translation.de", "translation.en"), False),
        ({"question": "q", "answer": "a", "sql": "s"}, ("question", "answer"), False),
        ({"id": "1", "context": "c", "question": "q", "answer": "a"}, ("question", "answer"), False),
        ({"chat": SHARE}, SHARE_VIEWS, False),
        ({"chat": [{"from": "system", "value": "You are brief."}, *SHARE]}, SHARE_VIEWS, False),
        ({"conversations": SHARE}, {}, True),
        ({"conversations": CHAT, "id": "a"}, {}, True),
        ({"messages": CHAT}, {}, True),
        ({"prompt": "q", "completion": "a"}, {}, True),
        ({"messages": CHAT, "text": "digits", "code": "[0-9]"}, {}, True),
        ({"messages": CHAT, "text": "any digit", "code": "\\d"}, OWN_VIEWS, False),
        ({"prompt": "q", "completion": "a", "text": "x", "code": "y", "id": "z"}, OWN_VIEWS, False),
        ({"text": "t", "label": 1}, {"jepa_objective": "tube", "dataset_text_field": "text"}, False),
        ({"a": "x", "b": "y", "c": "z"}, {}, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mapping_is_proposed_and_makes_rows(row, expected, is_certain, tmp_path):
    """The printed settings are a valid configuration, and give every row that was not refused."""
    path = write(tmp_path / "data.jsonl", [row, row])
    found = profile(path)
    if isinstance(expected, tuple):
        expected = dict(zip(("source_column", "target_column"), expected, strict=True))
    assert (found.proposal.settings, found.proposal.is_certain) == (expected, is_certain)
    assert (found.num_rows, found.num_refused, found.duplicate_rows.num_duplicates) == (2, 0, 1)
    args = JEPAConfig("out", use_cpu=True, bf16=False, **expected)
    if found.proposal.has_views:
        dataset = load_split(ScriptArguments(dataset_name=str(path)), "train")
        made = to_rows(dataset, ColumnMapping.from_args(args), True)
        is_chat = not {"messages", "conversations", "chat"}.isdisjoint(row)
        assert (len(made), made[0]["source"], made[0]["target"]) == (2, *(("digits", "[0-9]") if is_chat else "qa"))
        assert found.duplicate_pairs.num_duplicates == 1


def test_of_lists_the_first_item_has_a_path_and_turns_have_none():
    row = {
        "a": [{"b": "x", "c": [{"d": 1}]}, {"e": 2}],
        "tags": ["y", "z"], "n": [1, 2], "none": [], "m": [[{"b": "x"}]],
        "chat": CHAT, "share": SHARE, "odd": [*CHAT, "x"],
    }  # fmt: skip
    found = dict(walk_fields(row))
    assert {path: value for path, value in found.items() if path not in row} == {
        "a.0.b": "x", "a.0.c": [{"d": 1}], "a.0.c.0.d": 1, "tags.0": "y",
    }  # fmt: skip
    assert found.keys() >= row.keys()


def test_when_nothing_is_certain_the_texts_are_candidates():
    proposal = propose_mapping(["a", "b", "c", "n"], {"a": "text", "b.d": "text", "c": "text", "n": "number"})
    assert (proposal.candidates, proposal.settings) == (["a", "b.d", "c"], {})
    assert propose_mapping(["n"], {"n": "number"}).reason == "it has no texts"


def test_another_text_leaves_a_doubt_and_the_texts_are_candidates():
    """It may belong to the source, as a context does."""
    for names in (["context", "question", "answer"], ["instruction", "input", "output", "text"]):
        proposal = propose_mapping(["id", *names], dict.fromkeys(["id", *names], "text"))
        assert (proposal.is_certain, proposal.candidates) == (False, names)
        assert proposal.settings["target_column"] == names[2]


def test_a_single_text_is_proposed_only_where_it_is_a_column():
    """TRL's `dataset_text_field` takes no field in a column."""
    proposal = propose_mapping(["id", "example"], {"id": "number", "example.q.text": "text"})
    assert (proposal.settings, proposal.has_views, proposal.candidates) == ({}, False, ["example.q.text"])
    assert "not on a field in one" in proposal.reason
    assert propose_mapping(["q.text"], {"q.text": "text"}).settings["dataset_text_field"] == "q.text"


@pytest.mark.parametrize("turns", [CHAT, SHARE])
@pytest.mark.parametrize("column", ["messages", "history"])
def test_turns_written_as_json_are_no_text_to_train_on(column, turns, tmp_path):
    found = profile(write(tmp_path / "data.jsonl", [{column: json.dumps(turns)}] * 2))
    assert (found.proposal.settings, found.proposal.has_views) == ({}, False)
    assert f"`{column}` is a text that holds turns as JSON; parse it" in found.proposal.reason


def test_a_text_that_is_json_or_like_it_stays_a_text():
    for text in ('{"a": 1}', "[1]", "[0-9]+", "[not json", '[{"role": 1}]', "[]"):
        assert field_kind(text) == "text"
    pair = {"question": "text", "answer": "text", "history": "JSON text of turns"}
    assert propose_mapping([*pair], pair).settings == {"source_column": "question", "target_column": "answer"}


def test_fields_of_mixed_types_are_named(tmp_path):
    rows = [{"question": "q", "answer": "a", "n": 1}, {"question": "q", "answer": 3, "n": 1.5}]
    proposal = profile(write(tmp_path / "data.jsonl", rows)).proposal
    assert (proposal.settings, proposal.has_views, proposal.candidates) == ({}, False, ["question", "answer"])
    assert "`answer` hold texts in some rows and other types in others" in proposal.reason
    rows = [row | {"sql": "s"} for row in rows]
    proposal = profile(write(tmp_path / "more.jsonl", rows)).proposal
    assert (proposal.settings["target_column"], proposal.is_certain) == ("sql", False)
    assert proposal.candidates == ["question", "sql", "answer"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"version": "1", "data": [{"q": "a", "a": "b"}, {"q": "c", "a": "d"}]}, "`data` holds the rows, a list of 2"),
        ({"q": ["a", "c"], "a": ["b", "d"]}, "lists hold the rows, one list per column"),
    ],
)
def test_an_object_that_holds_the_rows_is_none(document, where, indent, tmp_path, monkeypatch):
    """The printed command writes a file of the rows."""
    monkeypatch.chdir(tmp_path)
    Path("data.json").write_text(json.dumps(document, indent=indent))
    proposal = profile(Path("data.json")).proposal
    assert (proposal.settings, proposal.has_views) == ({}, False)
    assert where in proposal.reason
    command = proposal.reason.split("`")[-2].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    assert rows == [{"q": "a", "a": "b"}, {"q": "c", "a": "d"}]


def test_one_row_of_turns_is_a_row(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"messages": CHAT}))
    assert profile(tmp_path / "data.json").proposal.is_certain


@pytest.mark.parametrize(("column", "turns"), [("messages", CHAT), ("conversations", SHARE)])
def test_conversations_that_end_with_a_question_are_learned_up_to_the_last_answer(column, turns, tmp_path):
    path = write(tmp_path / "data.jsonl", [{column: [*turns, turns[0]]}, {column: [*turns, *turns]}, {column: turns}])
    found = profile(path)
    assert (found.proposal.settings, found.num_refused) == ({"target_turn": "all"}, 0)
    assert found.duplicate_pairs.num_duplicates == 3  # of four pairs
    mapping = ColumnMapping(target_turn="all")
    dataset = expand_rows(load_split(ScriptArguments(dataset_name=str(path)), "train"), mapping)
    assert to_rows(dataset, mapping, True)["target"] == ["[0-9]"] * 4


def test_a_conversation_without_an_answer_needs_no_option(tmp_path):
    found = profile(write(tmp_path / "data.jsonl", [{"messages": CHAT[:1]}, {"messages": None}, {"messages": CHAT}]))
    assert (found.proposal.settings, found.num_refused) == ({}, 2)


def test_turns_that_no_template_can_name_are_candidates():
    proposal = propose_mapping(["chat-turns"], {"chat-turns": "ShareGPT turns"})
    assert (proposal.settings, proposal.has_views, proposal.candidates) == ({}, False, ["chat-turns"])


@pytest.mark.parametrize("keys", [("from", "content"), ("role", "value")])
def test_turns_of_mixed_keys_are_conversations(keys, tmp_path):
    turns = [dict(zip(keys, ("user", "letters"), strict=True)), dict(zip(keys, ("assistant", "[a-z]"), strict=True))]
    found = profile(write(tmp_path / "data.jsonl", [{"conversations": turns}] * 2))
    assert (found.proposal.settings, found.proposal.is_certain, found.num_refused) == ({}, True, 0)
    assert found.fields["conversations"].kind == "turns"


def test_turns_in_a_column_of_another_name_are_to_be_renamed():
    proposal = propose_mapping(["dialog", "id"], {"dialog": "chat messages", "note": "text", "more": "text"})
    assert (proposal.settings, proposal.has_views, proposal.candidates) == ({}, False, ["dialog"])
    assert "`dialog` holds turns, which are read from a column called `messages`" in proposal.reason


def test_two_fields_of_the_first_item_of_a_list_are_no_pair():
    proposal = propose_mapping(["talk"], {"talk.0.speaker": "text", "talk.0.utterance": "text"})
    assert (proposal.settings, proposal.has_views) == ({}, False)
    assert "`talk` is a list, of whose first item alone these are fields" in proposal.reason


def test_a_system_column_is_the_system_turn_and_other_fields_that_people_expect_to_count_are_named(tmp_path):
    rows = [{"messages": CHAT, "system": f"Be brief, {i}."} for i in range(3)]
    found = profile(write(tmp_path / "data.jsonl", rows)).proposal
    assert (found.is_certain, found.reason.endswith("; `system` is their system turn")) == (True, True)
    unread = profile(write(tmp_path / "more.jsonl", [row | {"history": "h", "id": 1} for row in rows])).proposal
    assert not unread.is_certain
    assert "`history` is not read" in unread.reason
    pairs = [{"question": "q", "answer": "a", "system_prompt": "s"}] * 2
    assert "`system_prompt` is not read" in profile(write(tmp_path / "pairs.jsonl", pairs)).proposal.reason


def test_alpacas_input_may_be_empty(tmp_path):
    rows = [{"instruction": "sort", "input": text, "output": "a"} for text in ("", "1 2")]
    found = profile(write(tmp_path / "data.jsonl", rows))
    assert (found.proposal.is_certain, found.num_refused) == (True, 0)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("", "text"), (True, "number"), (1.5, "number"), (CHAT, "chat messages"), (SHARE, "ShareGPT turns"),
     ([1], "list"), ([], "list"), (None, "other"), ({}, "other"), ([*CHAT, "x"], "list")],
)  # fmt: skip
def test_the_kind_of_a_value(value, kind):
    assert field_kind(value) == kind


# --- bad rows and files


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
