"""A column called `tools` is read if it holds tools. Tools and their calls reach the template as they are written."""

import json
from datetime import datetime

import pytest
from datasets import Dataset

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import to_rows
from llm_jepa.data.source import DataSource
from tests.templates import SHIPPED, with_template
from tests.tiny import tiny_tokenizer

TOOLS = [{"type": "function", "function": {"name": "weather"}}]
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
PAIR = {"source": "a", "target": "b"}
NAMED = ColumnMapping("source", "target")


def tools_of(row: dict, mapping: ColumnMapping = ColumnMapping()) -> object:  # noqa: B008 (frozen)
    return to_rows(Dataset.from_list([row]), mapping, True)["tools"][0]


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS), "[]"])
def test_tools_and_their_json_are_kept(tools):
    assert tools_of({**CHAT, "tools": tools}) == tools
    assert tools_of({**PAIR, "tools": tools}, NAMED) == tools


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_a_blank_is_no_tools(blank):
    assert tools_of({**CHAT, "tools": blank}) is None
    assert tools_of({**PAIR, "tools": blank}, NAMED) is None


@pytest.mark.parametrize("other", ["hammer, nails", "[hammer]", "3", '{"name": "weather"}', 3])
def test_what_is_no_tools_is_refused_beside_turns_and_not_read_beside_named_columns(other):
    assert tools_of({**PAIR, "tools": other}, NAMED) is None
    with pytest.raises(ValueError, match=r"^Row 0: column 'tools' holds .*, not a list of tools or its JSON"):
        tools_of({**CHAT, "tools": other})


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_of_other_rows_leave_no_nulls(streaming, tmp_path, monkeypatch):
    """The chat template would write them into the prompt."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    tools = [
        [{"name": "a", "parameters": {"x": "int"}}],
        [{"name": "b", "parameters": {"y": "str"}, "strict": True}],
        None,
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**CHAT, "tools": each}) + "\n" for each in tools))
    rows = to_rows(load_split(DataSource(str(path), dataset_streaming=streaming), "train"), ColumnMapping(), True)
    assert [row["tools"] for row in rows] == tools


def turns_with_call(**arguments) -> list[dict]:
    """The call has no text."""
    return [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "answer"},
    ]


TURNS = [turns_with_call(city="Paris"), turns_with_call(sum="1+1", form={"digits": 0.123456789012345, "bits": 2**60})]
"""Of two rows, each with arguments that the other lacks."""


@pytest.mark.parametrize("form", ["jsonl", "stream", "parquet"])
@pytest.mark.parametrize("columns", ["messages", "prompt, completion"])
def test_calls_of_other_rows_leave_no_nulls(columns, form, prepare, tmp_path, monkeypatch):
    """Neither in the rows nor in what is learned of them."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    whole = columns == "messages"
    rows = [{"messages": turns} if whole else {"prompt": turns[:1], "completion": turns[1:]} for turns in TURNS]
    path = tmp_path / f"rows.{form.replace('stream', 'jsonl')}"
    if form == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load_split(DataSource(str(path), dataset_streaming=form == "stream"), "train")
    made = [row["prompt"] + row["completion"] for row in to_rows(dataset, ColumnMapping(), True)]
    assert made == [[{"content": None} | turn for turn in turns] for turns in TURNS]
    for row, turns in zip(prepare(dataset, with_template(SHIPPED["qwen3"])), TURNS, strict=True):
        (call,) = turns[1]["tool_calls"]
        text = tiny_tokenizer().decode(row["input_ids"] if whole else [i for i in row["labels"] if i != -100])
        assert f"<tool_call>\n{json.dumps({'name': 'f', 'arguments': call['function']['arguments']})}\n" in text


def test_settings_of_other_rows_leave_no_nulls():
    rows = [{**CHAT, "chat_template_kwargs": settings} for settings in ({"mood": "glad"}, {"date": "today"})]
    made = to_rows(Dataset.from_list(rows), ColumnMapping(), True)
    assert made["chat_template_kwargs"][:] == [{"mood": "glad"}, {"date": "today"}]


def test_dates_in_turns_of_parquet_are_texts():
    turns = [turn | {"at": datetime(2024, 1, 5)} for turn in CHAT["messages"]]
    made = to_rows(Dataset.from_list([{"messages": turns}]), ColumnMapping(), True)
    assert made["prompt"][0] == [turns[0] | {"at": "2024-01-05 00:00:00"}]
