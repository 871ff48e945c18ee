"""Single texts are rendered as the rows of a training are."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.text_rows import has_plain_prompts, text_row_maker

TURNS = [{"role": "user", "content": "q"}]
ANSWER = [{"role": "assistant", "content": "a"}]
NAMED = ColumnMapping("prompt", "completion")
OPTIONS = SimpleNamespace(system_prompt="s", chat_template_kwargs=None)


@pytest.mark.parametrize(("row", "mapping", "expected"), [
    ({"prompt": "q", "completion": "a"}, ColumnMapping(), True),
    ({"text": "q a"}, ColumnMapping(), True),
    ({"prompt": "q", "completion": "a"}, NAMED, False),
    ({"prompt": TURNS, "completion": ANSWER}, ColumnMapping(), False),
    ({"messages": [*TURNS, *ANSWER]}, ColumnMapping(), False),
    ({"input_ids": [1], "labels": [1]}, ColumnMapping(), False),
])  # fmt: skip
def test_strings_are_plain_unless_their_columns_are_named(row, mapping, expected):
    assert has_plain_prompts(Dataset.from_list([row]), mapping) is expected


def test_a_plain_prompt_has_no_turns():
    plain = text_row_maker(OPTIONS, has_chat_template=True, is_plain=True)("q", "a")
    assert (plain["prompt"], plain["completion"]) == ("s\nq", "a")
    chat = text_row_maker(OPTIONS, has_chat_template=True, is_plain=False)("q", "a")
    assert chat["prompt"] == [{"role": "system", "content": "s"}, *TURNS]
    assert chat["completion"] == ANSWER
