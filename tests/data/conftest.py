"""A trainer of a tiny model, made once, whose preparation the tests call."""

import copy

import pytest
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPATrainer
from llm_jepa.data.rows import column_names
from tests.data.preparing import PAIR_COLUMNS, config, new_trainer
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="session")
def trainer() -> JEPATrainer:
    """One trainer, whose preparation the tests call with other data and options, as `evaluate` does."""
    return new_trainer(PAIRS, **PAIR_COLUMNS)


@pytest.fixture(scope="session")
def sft_trainer() -> SFTTrainer:
    args = SFTConfig("out", report_to="none", use_cpu=True, bf16=False)
    rows = Dataset.from_list([{"prompt": "a", "completion": "b"}])
    return SFTTrainer(tiny_llama(), args, train_dataset=rows, processing_class=copy.deepcopy(tiny_tokenizer()))


@pytest.fixture
def prepare(trainer):
    """prepare(rows or data set, tokenizer=..., option=value, ...) -> the prepared data set."""

    def run(rows, tokenizer=None, **options):
        dataset = Dataset.from_list(rows) if isinstance(rows, list) else rows
        if "source" in column_names(dataset):
            options = PAIR_COLUMNS | options
        tokenizer = tokenizer or trainer.processing_class
        return trainer._prepare_dataset(dataset, tokenizer, config(**options), False, None, "train")

    return run
