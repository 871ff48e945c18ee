"""The target view of a chat is the assistant turn as the template renders it in the conversation."""

import pytest
from datasets import Dataset

from llm_jepa.data.views import ViewMaker
from tests.templates import SHIPPED, TEXT_TEMPLATES, chat_row, with_template
from tests.tiny import CHATML

HEADER = "<|im_start|>assistant\n"
REASONED = "<think>\nadd\n</think>\n\n4"


def target_view(template: str, target: str = REASONED, **columns) -> str:
    """The text of the target view, which begins where the header does."""
    tokenizer = with_template(template)
    row = chat_row(tokenizer, "2+2?", target, **columns)
    return tokenizer.decode(ViewMaker(tokenizer, "alone")(row)["target_ids"])


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_reasoning_in_an_answer_has_no_empty_block_before_it(source_view):
    tokenizer = with_template(SHIPPED["qwen3"])
    row = chat_row(tokenizer, "2+2?", REASONED)
    view = ViewMaker(tokenizer, source_view)(row)
    assert tokenizer.decode(view["target_ids"]) == HEADER + REASONED
    assert tokenizer.decode(row["input_ids"]).endswith(f"{HEADER}{REASONED}<|im_end|>\n")
    assert (
        view["target_ids"][: view["target_start"]]
        == tokenizer(f"{HEADER}<think>\n", add_special_tokens=False)["input_ids"]
    )


def test_an_answer_without_reasoning_keeps_the_block_that_the_template_writes():
    assert target_view(SHIPPED["qwen3"], "4") == f"{HEADER}<think>\n\n</think>\n\n4"


def test_reasoning_is_written_as_the_template_writes_it_or_left_out_as_it_does():
    assert target_view(SHIPPED["qwen3"], "<think>add</think>4") == HEADER + REASONED
    assert target_view(SHIPPED["deepseek_r1_distill"]).endswith("<｜Assistant｜>\n\n4")  # noqa: RUF001
    assert target_view(SHIPPED["deepseek_r1_distill_training"]).endswith(f"<｜Assistant｜>{REASONED}")  # noqa: RUF001


def test_reasoning_in_a_field_of_its_own_belongs_to_the_view():
    tokenizer = with_template(SHIPPED["qwen3"])
    row = chat_row(tokenizer, "2+2?", "4")
    row["completion"][0]["reasoning_content"] = "add"
    assert tokenizer.decode(ViewMaker(tokenizer, "alone")(row)["target_ids"]) == HEADER + REASONED
    row["completion"][0]["reasoning_content"] = None
    view = ViewMaker(tokenizer, "alone")(row)["target_ids"]
    assert tokenizer.decode(view) == f"{HEADER}<think>\n\n</think>\n\n4"


def test_a_call_of_a_tool_after_the_content_is_no_part_of_the_view():
    tokenizer = with_template(SHIPPED["qwen3"])
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    row = chat_row(tokenizer, "2+2?", "let me see")
    row["completion"][0]["tool_calls"] = [call]
    view = ViewMaker(tokenizer, "alone")(row)["target_ids"]
    assert tokenizer.decode(view) == f"{HEADER}<think>\n\n</think>\n\nlet me see"


def test_a_view_beside_a_conversation_is_rendered_as_a_turn_of_its_own():
    tokenizer = with_template(SHIPPED["qwen3"])
    row = chat_row(tokenizer, "a", "b", source_view="2+2?", target_view=REASONED)
    assert tokenizer.decode(ViewMaker(tokenizer, "alone")(row)["target_ids"]) == HEADER + REASONED


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_a_content_that_the_template_writes_as_it_is_gives_header_and_content(name):
    """Also with keys that no template reads, for which the turn is looked for in the conversation."""
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer)
    plain = ViewMaker(tokenizer, "alone")(row)
    row["completion"][0]["weight"] = 1
    assert ViewMaker(tokenizer, "alone")(row) == plain


def test_a_template_that_is_told_by_an_argument_is_rendered_with_it():
    template = CHATML.replace("{{ message['content'] }}", "{{ mood }}{{ message['content'] }}")
    view = target_view(template, "4", chat_template_kwargs={"mood": "gladly: "})
    assert view == f"{HEADER}gladly: 4"


def test_rows_of_a_data_set_have_the_rendered_turn(prepare):
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": REASONED}]
    tokenizer = with_template(SHIPPED["qwen3"])
    (row,) = prepare(Dataset.from_list([{"messages": turns}]), tokenizer)
    assert tokenizer.decode(row["target_ids"]) == HEADER + REASONED
