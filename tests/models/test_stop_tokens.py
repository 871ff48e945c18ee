"""The token that ends an answer is a stop token of what is saved, and of evaluation; rows without one are told."""

import json
import logging

import pyarrow as pa
import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import GenerationConfig

from llm_jepa import JEPATrainer
from llm_jepa.models.stop_tokens import answer_end_id, completion_end_id, keep_answer_end, stop_token_ids
from llm_jepa.training.row_ends import _Ends
from tests.data.preparing import PAIR_COLUMNS, TOKENISED, config
from tests.templates import LITERAL, PLAIN_WORDS, SHIPPED, with_template
from tests.tiny import CHATML, PAIRS, tiny_llama, tiny_tokenizer

EOS, END = 0, 2
"""`<|endoftext|>` and `<|im_end|>` of the tiny tokenizer."""


def base_tokenizer(template: str | None = CHATML):
    """As of a base model: a ChatML template, and another EOS."""
    tokenizer = with_template(template)
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def base_model():
    return tiny_llama(eos_token_id=EOS, pad_token_id=EOS, bos_token_id=EOS)


@pytest.mark.parametrize("template", [CHATML, SHIPPED["qwen3"], SHIPPED["lfm2"], LITERAL["smollm2"]])
def test_the_end_of_an_answer_is_the_last_special_token_that_the_template_writes(template):
    assert answer_end_id(base_tokenizer(template)) == END
    config = GenerationConfig(eos_token_id=EOS)
    assert stop_token_ids(config, base_tokenizer(template)) == [EOS, END]


@pytest.mark.parametrize(
    "template",
    [None, PLAIN_WORDS, SHIPPED["glm4moe"], SHIPPED["llama3"], "{{ raise_exception('no') }}", "{{ messages[9].x.y }}"],
)
def test_an_answer_may_have_no_special_end(template):
    """No template, text alone, no end of the last turn, an end that is no token of the vocabulary, an error."""
    assert answer_end_id(base_tokenizer(template)) is None
    assert stop_token_ids(GenerationConfig(eos_token_id=[EOS]), base_tokenizer(template)) == [EOS]


def test_a_completion_ends_as_training_ends_it():
    """TRL appends EOS to plain strings; the template ends an answer of a chat."""
    assert completion_end_id(base_tokenizer(), is_chat=True) == END
    assert completion_end_id(base_tokenizer(PLAIN_WORDS), is_chat=True) == EOS
    assert completion_end_id(base_tokenizer(), is_chat=False) == EOS


@pytest.mark.parametrize(("given", "expected"), [(EOS, [EOS, END]), ([5, EOS], [5, EOS, END]), (None, [EOS, END])])
def test_the_end_of_an_answer_is_added_to_the_stop_tokens(given, expected):
    config = GenerationConfig(eos_token_id=given)
    keep_answer_end(config, base_tokenizer())
    assert config.eos_token_id == expected


def test_stop_tokens_that_hold_the_end_of_an_answer_stay_as_they_are():
    config = GenerationConfig(eos_token_id=[END, 5])
    keep_answer_end(config, base_tokenizer())
    assert config.eos_token_id == [END, 5]
    config = GenerationConfig(eos_token_id=EOS)
    keep_answer_end(config, tiny_tokenizer())  # its EOS is the end of an answer
    assert config.eos_token_id == EOS


def new_trainer(tokenizer, rows=PAIRS, peft_config=None, **options) -> JEPATrainer:
    dataset = Dataset.from_list(rows)
    args = config(jepa_layout="rows", **PAIR_COLUMNS | options)
    return JEPATrainer(base_model(), args, train_dataset=dataset, processing_class=tokenizer, peft_config=peft_config)


@pytest.mark.parametrize("jepa_weight", [0.0, 1.0])
def test_the_saved_model_stops_where_its_rows_end(jepa_weight, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="llm_jepa"):
        trainer = new_trainer(base_tokenizer(), jepa_weight=jepa_weight, save_strategy="no")
    trainer.args.output_dir = str(tmp_path)
    trainer.train()
    trainer.save_model()
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [EOS, END]
    assert (
        "Answers end with '<|im_end|>', which is no stop token of the model. A saved model has it as one"
        in caplog.text
    )
    assert "rows of the train data end with" not in caplog.text


def test_an_adapter_says_how_it_is_served(caplog):
    peft_config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    with caplog.at_level(logging.INFO, logger="llm_jepa"):
        trainer = new_trainer(base_tokenizer(), peft_config=peft_config)
    assert trainer.base_causal_lm.generation_config.eos_token_id == [EOS, END]
    assert "or train with `eos_token: <|im_end|>`" in caplog.text


def test_the_eos_that_a_recipe_names_needs_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="llm_jepa"):
        trainer = new_trainer(base_tokenizer(), eos_token="<|im_end|>")
    assert "Answers end with" not in caplog.text
    assert trainer.model.generation_config.eos_token_id == [END, EOS]


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_that_end_with_no_stop_token_are_told_before_training(streaming, caplog):
    """The template ends no turn, so that the last label of each row is its last letter."""
    template = SHIPPED["glm4moe"]
    rows = Dataset.from_list(PAIRS[:2])
    dataset = rows.to_iterable_dataset() if streaming else rows
    trainer = JEPATrainer(
        base_model(), config(**PAIR_COLUMNS), train_dataset=dataset, processing_class=base_tokenizer(template)
    )
    list(trainer.train_dataset)
    those = "Row 0 and maybe others of the train data" if streaming else "2 of 2 rows of the train data"
    told = [record.getMessage() for record in caplog.records if "is no stop token" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"{those} end with ")
    assert "of the model ('<|endoftext|>')" in told[0]
    assert "Use a `chat_template_path` that ends an answer with <|endoftext|>" in told[0]


def test_tokenised_rows_are_told_too(caplog):
    """Two of them end with the letter 8, one with the end of ChatML's turn, of which no template tells."""
    ended = {"input_ids": [5, 6, 7, END], "labels": [-100, -100, 7, END], "source_ids": [5], "target_ids": [7]}
    options = {"source_column": None, "target_column": None}
    new_trainer(base_tokenizer(None), [TOKENISED, TOKENISED, ended], **options)
    assert "3 of 3 rows of the train data end with" in caplog.text
    caplog.clear()
    new_trainer(base_tokenizer(None), [ended], **options)
    assert "Set `eos_token: <|im_end|>`" in caplog.text
    caplog.clear()
    new_trainer(base_tokenizer(), [ended], **options)
    assert "is no stop token" not in caplog.text


def test_the_end_of_a_row_is_its_last_label_that_is_no_white_space():
    tokenizer = tiny_tokenizer()
    (newline,) = tokenizer("\n")["input_ids"]
    labels = pa.array([[-100, 7, END, newline], [-100, -100], [], [7, newline, newline], [9, -100], [newline]])
    assert sorted(_Ends(tokenizer).of_lists(labels)) == [END, 7, 9]
    assert _Ends(tokenizer).of_lists(labels.slice(3, 1)) == [7]
