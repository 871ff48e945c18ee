"""What is found while rows are tokenised is said in every run, with its rows counted, wherever the rows come from."""

import logging
from pathlib import Path

import pytest
from datasets import Dataset
from tokenizers.normalizers import Lowercase

from llm_jepa.data.findings import find_in_row
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.recipe import parse_recipe
from tests.templates import SHIPPED, chat_row, greedy_tokenizer, with_template
from tests.tiny import CHATML, PAIRS, save_tiny_model, tiny_tokenizer

MERGED = [{"prompt": "lines with a ", "completion": "number"}, {"prompt": "lines with a", "completion": " vowel"}]
"""The first prompt alone ends with the token of a space, and in the conversation with " number"."""
REASONED = [
    {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
        ]
    },
    {"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}]},
]
LOST = (
    "In 1 of 2 rows of the {} data, the prompt alone ends otherwise than in the conversation (row 0: nothing is "
    "learned after ' ')"
)
UNLEARNED = "In 1 of 2 rows of the {} data, the labels do not hold the target's text (first in row 0)"


def test_the_end_of_a_prompt_is_lost_where_its_last_token_merges_with_the_completion():
    tokenizer = tiny_tokenizer()
    for row, lost in zip(MERGED, (" ", ""), strict=True):
        ids = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        found = find_in_row(tokenizer, row | {"target": row["completion"]}, ids)
        assert found == {"lost_prompt_end": lost, "is_target_learned": True, "unwritten_role": ""}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_lost_end_is_said_in_every_run_and_once(streaming, prepare, caplog, tmp_path):
    """The second run takes the rows from the cache of a data set that is a file."""
    Dataset.from_list(MERGED).to_parquet(tmp_path / "rows.parquet")
    for _ in range(2):
        dataset = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))
        caplog.clear()
        list(prepare(dataset.to_iterable_dataset() if streaming else dataset))
        expected = LOST.format("train")
        expected = expected.replace("1 of 2 rows", "some rows") if streaming else expected
        assert [expected in record.getMessage() for record in caplog.records].count(True) == 1
        assert streaming or "is not a prefix" not in caplog.text


@pytest.mark.parametrize("options", [{}, {"jepa_weight": 0.0}, {"jepa_source_view": "prefix"}])
def test_a_target_that_is_not_in_the_labels_is_said(options, prepare, caplog):
    """DeepSeek's template leaves the reasoning out; the one of the recipes writes answers as they are."""
    rows = prepare(REASONED, with_template(SHIPPED["deepseek_r1_distill"]), **options)
    assert rows["is_target_learned"] == [False, True]
    assert UNLEARNED.format("train") in caplog.text
    caplog.clear()
    template = Path(__file__).parents[2] / "recipes/templates/deepseek-r1-distill.jinja"
    rows = prepare(REASONED, with_template(template.read_text(encoding="utf-8")), **options)
    assert rows["is_target_learned"] == [True, True]
    assert not caplog.text


def test_the_tube_refuses_a_target_that_is_not_in_the_conversation(prepare):
    with pytest.raises(ValueError, match="the chat template rewrites the target"):
        prepare(REASONED, with_template(SHIPPED["deepseek_r1_distill"]), jepa_objective="tube")


def test_a_reasoning_that_the_prompt_begins_is_not_learned_as_it_is(prepare, caplog):
    """Qwen3.5 begins each prompt with `<think>`, so that the labels begin after it."""
    prepare(REASONED[:1], with_template(SHIPPED["qwen3_5_think"]))
    assert "In 1 of 1 rows of the train data, the labels do not hold the target's text" in caplog.text


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), greedy_tokenizer()], ids=["regex", "greedy"])
@pytest.mark.parametrize("template", [CHATML, SHIPPED["qwen3"], SHIPPED["gemma"], SHIPPED["llama3_2"]])
def test_plain_answers_are_found_in_the_labels(tokenizer, template):
    tokenizer = with_template(template, tokenizer)
    for pair in PAIRS:
        row = chat_row(tokenizer, pair["source"], f" {pair['target']}\n")
        assert find_in_row(tokenizer, row, row["input_ids"])["is_target_learned"]


def test_an_answer_is_found_though_the_tokenizer_normalises_it():
    tokenizer = with_template(CHATML)
    tokenizer.backend_tokenizer.normalizer = Lowercase()
    row = chat_row(tokenizer, "Which?", "The [A-Z] one")
    assert "The [A-Z]" not in tokenizer.decode(row["input_ids"])
    assert find_in_row(tokenizer, row, row["input_ids"])["is_target_learned"]


def test_a_turn_that_the_template_leaves_out_for_its_role_is_said(prepare, caplog):
    """Qwen3 writes turns of the roles it knows; ChatML writes any."""
    turns = [("user", "2+2?"), ("observation", "a calculator"), ("assistant", "4")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    assert prepare(rows, with_template(SHIPPED["qwen3"]))["unwritten_role"] == ["observation"]
    told = "In 1 of 1 rows of the train data, the chat template leaves out a turn of the role 'observation'"
    assert told in caplog.text
    assert prepare(rows, with_template(CHATML))["unwritten_role"] == [""]


def test_evaluation_says_both_of_its_rows(tmp_path, caplog):
    model, data = tmp_path / "model", tmp_path / "rows.jsonl"
    save_tiny_model(model)
    Dataset.from_list(MERGED).to_json(data)
    settings = f"model_name_or_path: {model}\ndataset_name: {data}\ndataset_test_split: train\nbf16: false\n"
    (tmp_path / "recipe.yaml").write_text(f"{settings}output_dir: {tmp_path / 'out'}\n")
    with caplog.at_level(logging.WARNING):
        assert len(load_rows(parse_recipe([str(tmp_path / "recipe.yaml")]), tiny_tokenizer())) == 2
        assert LOST.format("held-out (train)") in caplog.text
        Dataset.from_list(REASONED).to_json(data)
        tokenizer = with_template(SHIPPED["deepseek_r1_distill"])
        load_rows(parse_recipe([str(tmp_path / "recipe.yaml")]), tokenizer)
    assert UNLEARNED.format("held-out (train)") in caplog.text
