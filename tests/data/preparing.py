"""What the tests of preparation share: rows, options, and trainers of tiny models."""

import copy

from datasets import Dataset, Features

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import tiny_llama, tiny_tokenizer

PAIR_COLUMNS = {"source_column": "source", "target_column": "target"}
IGNORED = -100
CHAT = [
    {"role": "user", "content": "letters"},
    {"role": "assistant", "content": "[a-z]"},
    {"role": "user", "content": "digits"},
    {"role": "assistant", "content": "[0-9]"},
]
TOKENISED = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "source_ids": [5, 6], "target_ids": [7, 8]}
LONG = [{"source": "a" * n, "target": "b" * m} for n, m in [(3, 3), (90, 3), (4, 4), (3, 90), (5, 5)]]
"""Rows 1 and 3 are longer than 80 tokens."""
PREPARED_COLUMNS = {*TOKENISED, "source_start", "target_start", "row_index"}


def config(**options) -> JEPAConfig:
    return JEPAConfig("out", report_to="none", max_steps=1, use_cpu=True, bf16=False, **options)


def new_trainer(rows: list[dict], features: Features | None = None, **options) -> JEPATrainer:
    return JEPATrainer(
        tiny_llama(),
        config(jepa_layout="rows", **options),
        train_dataset=Dataset.from_list(rows, features),
        eval_dataset=Dataset.from_list(rows[:2], features),
        processing_class=copy.deepcopy(tiny_tokenizer()),
    )


def learned(row: dict) -> str:
    return tiny_tokenizer().decode([label for label in row["labels"] if label != IGNORED])
