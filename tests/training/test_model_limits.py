"""Rows beyond a model's positions or embeddings, and models that would not learn, are refused before training."""

import pytest
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPTJConfig, LlamaConfig, OPTConfig

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.training.model_limits import check_rows_of_model, has_position_table
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

GPT2 = GPT2Config(vocab_size=10, n_positions=4)
LLAMA = LlamaConfig(vocab_size=10, max_position_embeddings=4)


def rows(*input_ids: list[int], **columns) -> Dataset:
    content = {"input_ids": list(input_ids), "labels": [[-100, *ids[1:]] for ids in input_ids], **columns}
    return Dataset.from_dict({"row_index": [7 + i for i in range(len(input_ids))], **content})


def test_rows_within_the_model_pass_as_they_are():
    dataset = rows([0, 9, 1, 2], [3], source_ids=[[1, 2, 3], [4]], target_ids=[[], [5]])
    assert check_rows_of_model(dataset, GPT2, 1, "train") is dataset


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (rows([1, 2], [1, 10]), r"Row 8: the row has the token id 10 in `input_ids`.* for 0 to 9\."),
        (rows([1, 2], [1, -3]), "Row 8: the row has the token id -3 in `input_ids`"),
        (rows([1], [2], source_ids=[[1], [2]], target_ids=[[1], [99]]), "Row 8: .* the token id 99 in `target_ids`"),
        (rows([1, 2], labels=[[-100, 11]]), "Row 7: .* the token id 11 in `labels`"),
        (rows([1, 2], [1, 2, 3, 4, 5]), "Row 8: the row has 5 tokens, and the model has 4 positions. Set"),
        (rows([1], source_ids=[[1, 2, 3, 4]], target_ids=[[1]]), "Row 7: the row has 5 tokens"),
    ],
)
def test_a_row_beyond_the_model_is_named(dataset, message):
    """The last row has a view of four tokens and a predictor token."""
    with pytest.raises(ValueError, match=message):
        check_rows_of_model(dataset, GPT2, 1, "train")
    with pytest.raises(ValueError, match=message):
        list(check_rows_of_model(dataset.to_iterable_dataset(), GPT2, 1, "train"))


def test_a_model_that_computes_its_positions_is_only_warned_of_long_rows(caplog):
    check_rows_of_model(rows([1, 2, 3, 4]), LLAMA, 0, "train")
    assert caplog.text == ""
    check_rows_of_model(rows([1, 2, 3, 4, 5]), LLAMA, 0, "train")
    assert "The longest row of the train data has 5 tokens, and the model was made for 4 positions" in caplog.text


@pytest.mark.parametrize(
    ("config", "expected"), [(GPT2, True), (OPTConfig(), True), (GPTJConfig(), True), (LLAMA, False)]
)
def test_which_models_look_positions_up(config, expected):
    assert has_position_table(config) == expected


def arguments(tmp_path, **options) -> JEPAConfig:
    plain = {"use_cpu": True, "bf16": False, "report_to": "none", "max_length": 256}
    return JEPAConfig(str(tmp_path), source_column="source", target_column="target", **plain, **options)


def trainer(model, args, **options) -> JEPATrainer:
    return JEPATrainer(
        model, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tiny_tokenizer(), **options
    )


@pytest.mark.parametrize("jepa_weight", [0, 1])
def test_an_adapter_that_is_loaded_frozen_is_refused(tmp_path, jepa_weight):
    """As PEFT loads it by default; the predictor alone would learn."""
    get_peft_model(tiny_llama(), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(tmp_path / "adapter")
    frozen = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"Nothing of the model would be trained: .*is_trainable=True"):
        trainer(frozen, arguments(tmp_path, jepa_weight=jepa_weight))
    trainable = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter", is_trainable=True)
    trainer(trainable, arguments(tmp_path, jepa_weight=jepa_weight))


def test_an_adapter_for_another_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`task_type` of `peft_config` is .*SEQ_CLS; it must be CAUSAL_LM"):
        trainer(tiny_llama(), arguments(tmp_path), peft_config=LoraConfig(task_type="SEQ_CLS"))


def test_a_token_that_the_model_does_not_know_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"Row \d: the row has the token id \d+ in `input_ids`"):
        trainer(tiny_llama(vocab_size=280), arguments(tmp_path))


def test_rows_of_which_every_batch_would_be_dropped_are_refused(tmp_path):
    given = {"per_device_train_batch_size": 9, "dataloader_drop_last": True}
    with pytest.raises(ValueError, match="The training data have 8 rows, fewer than the batch of 9"):
        trainer(tiny_llama(), arguments(tmp_path, **given))
    trainer(tiny_llama(), arguments(tmp_path, **given | {"per_device_train_batch_size": 8}))
