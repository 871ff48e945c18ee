"""Trains a tiny model and writes losses, weights and predictor vectors: what each of several processes runs."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.training.launch import destroy_process_group
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer


def train_tiny(output_dir: str, options: dict[str, Any]) -> None:
    overrides = dict(options)
    rows, held_out = overrides.pop("rows", PAIRS), overrides.pop("held_out", None)
    adapter = LoraConfig(task_type="CAUSAL_LM") if overrides.pop("lora", False) else None
    settings = {
        "output_dir": output_dir,
        "source_column": "source",
        "target_column": "target",
        "learning_rate": 1e-2,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "ddp_backend": "gloo",
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = JEPATrainer(
        tiny_llama(),
        JEPAConfig(**settings | overrides),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=None if held_out is None else Dataset.from_list(held_out),
        processing_class=tiny_tokenizer(),
        peft_config=adapter,
    )
    trainer.train()
    trainer.save_model()
    if trainer.is_world_process_zero():
        report = {
            "distributed_type": trainer.accelerator.distributed_type.value,
            "num_processes": trainer.accelerator.num_processes,
            "log": [entry for entry in trainer.state.log_history if "lm_loss" in entry],
            "evaluations": [entry for entry in trainer.state.log_history if "eval_loss" in entry],
        }
        Path(output_dir, "report.json").write_text(json.dumps(report))
    destroy_process_group(trainer)
