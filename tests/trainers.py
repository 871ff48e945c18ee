"""Trainers of tiny models, for the tests of `tests/` and below."""

import torch
from datasets import Dataset

from llm_jepa import JEPAConfig, JEPATrainer
from tests.devices import USE_CPU
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

CHAT = [
    {
        "prompt": [{"role": "system", "content": "Write the regex."}, {"role": "user", "content": pair["source"]}],
        "completion": [{"role": "assistant", "content": pair["target"]}],
    }
    for pair in PAIRS
]
PLAIN = [{"prompt": f"{pair['source']}: ", "completion": pair["target"]} for pair in PAIRS]
TOKENISED = [
    {
        "input_ids": [1, *range(10, 20 + i), 2],
        "labels": [-100] * 6 + [*range(15, 20 + i), 2],
        "source_ids": [1, *range(10, 14 + i)],
        "target_ids": [1, *range(15, 18 + i)],
    }
    for i in range(8)
]
DATA = {"chat": CHAT, "plain": PLAIN, "tokenised": TOKENISED}
PAIR_COLUMNS = {"source_column": "source", "target_column": "target"}


def settings(tmp_path, **overrides):
    return {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": USE_CPU,
        "report_to": "none",
        "disable_tqdm": True,
    } | overrides


def jepa_trainer(tmp_path, rows=PAIRS, model=None, **overrides):
    keywords = {key: overrides.pop(key) for key in ("peft_config", "eval_dataset", "callbacks") if key in overrides}
    columns = PAIR_COLUMNS if rows and "source" in rows[0] else {}
    return JEPATrainer(
        model if model is not None else tiny_llama(),
        JEPAConfig(**settings(tmp_path, **columns | overrides)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        **keywords,
    )


def step_losses(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(actual, expected):
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert different == []
