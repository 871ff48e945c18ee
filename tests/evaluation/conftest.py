"""A tiny run that several files evaluate."""

import pytest
from datasets import Dataset

from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from tests.evaluation.tiny_runs import save_recipe, written_by
from tests.tiny import PAIRS, save_tiny_model, tiny_llama


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe and its run: two LoRA steps on the tiny model, at a rate that changes what it writes.

    The held-out golds are what the base model writes in six tokens: its scores are all strict, none stopped.
    """
    directory = tmp_path_factory.mktemp("trained")
    save_tiny_model(directory / "model", seed=3)
    (directory / "data").mkdir()
    Dataset.from_list(PAIRS).to_json(directory / "data" / "train.jsonl")
    golds = [completion.text for completion in written_by(tiny_llama(seed=3))]
    rows = [{"source": pair["source"], "target": gold} for pair, gold in zip(PAIRS, golds, strict=True)]
    Dataset.from_list(rows).to_json(directory / "data" / "test.jsonl")
    recipe = save_recipe(
        directory,
        use_peft=True,
        lora_target_modules="all-linear",
        learning_rate=0.1,
        max_steps=2,
        per_device_train_batch_size=4,
        save_strategy="no",
        disable_tqdm=True,
    )
    train(parse_recipe([str(recipe)]))
    return recipe
