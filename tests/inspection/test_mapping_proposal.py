"""The mapping that `llm-jepa inspect DATA` proposes for the columns of a data set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trl import ScriptArguments

from llm_jepa import JEPAConfig
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import to_rows
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.inspection.data_profile import field_kind, walk_fields
from llm_jepa.inspection.mapping_proposal import propose_mapping
from tests.inspection.profiles import profile, write

CHAT = [{"role": "user", "content": "digits"}, {"role": "assistant", "content": "[0-9]"}]
SHARE = [{"from": "human", "value": "digits"}, {"from": "gpt", "value": "[0-9]"}]
SHARE_VIEWS = (
    "{{ (chat | selectattr('from', 'in', ['human', 'user']) | first).value }}",
    "{{ (chat | selectattr('from', 'in', ['gpt', 'assistant', 'model']) | first).value }}",
)
OWN_VIEWS = {"source_view_column": "text", "target_view_column": "code"}


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
