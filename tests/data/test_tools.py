"""A column called `tools` is read if it holds tools, and is no obstacle if it does not."""

import json
from importlib.resources import files

import pytest
from datasets import Dataset

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import to_rows
from llm_jepa.data.source import DataSource
from tests.data.preparing import new_trainer
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


@pytest.mark.parametrize("template", ["llama3_1", "llama3_2", "gptoss"])
def test_turns_without_calls_beside_turns_with_calls_are_rendered_as_alone(template, tmp_path):
    """Arrow gives a turn the keys of the others as nulls, in which such templates look for calls."""
    call = {"type": "function", "function": {"name": "weather", "arguments": {"place": "Oslo"}}}
    called = [
        {"role": "user", "content": "Is it cold?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "-4"}, {"role": "assistant", "content": "Yes."},
    ]  # fmt: skip
    path = tmp_path / "template.jinja"
    path.write_text((files("trl") / "chat_templates" / f"{template}.jinja").read_text())
    plain = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    options = {"chat_template_path": str(path), "jepa_source_view": "prefix", "max_length": 1024}
    both = new_trainer([plain, {"messages": called}], **options).train_dataset
    alone = new_trainer([plain, plain], **options).train_dataset
    assert both[0]["input_ids"] == alone[0]["input_ids"]
    assert both[0]["source_ids"] == alone[0]["source_ids"]
    assert "Oslo" in tiny_tokenizer().decode(both[1]["input_ids"])


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
