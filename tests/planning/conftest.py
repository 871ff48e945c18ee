"""A small model, rows and settings for the planner's tests."""

import json
from pathlib import Path

import pytest

from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

MICRO_BATCH = 4


@pytest.fixture(scope="package")
def settings(tmp_path_factory) -> dict:
    """Settings of a recipe whose rows have one length, so that all micro-batches are equal."""
    directory = tmp_path_factory.mktemp("plan")
    write_model(directory / "model", hidden_size=128, intermediate_size=384, num_hidden_layers=2)
    data = directory / "data.jsonl"
    data.write_text((json.dumps(PAIRS[4]) + "\n") * 2 * MICRO_BATCH)
    return {
        "model_name_or_path": str(directory / "model"),
        "attn_implementation": "eager",  # whose products the profiler counts
        "dataset_name": str(data),
        "source_column": "source",
        "target_column": "target",
        "output_dir": str(directory / "output"),
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_checkpointing": False,
        "bf16": True,
        "max_steps": 2,
        "max_length": 512,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def write_model(directory: Path, **sizes: int) -> None:
    tiny_llama(**sizes).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
