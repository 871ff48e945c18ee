"""Run by `accelerate launch` in the tests: trains a tiny model and writes losses, weights and predictor vectors."""

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.train import leave
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer


def main(output_dir: str, options: str) -> None:
    overrides = json.loads(options)
    adapter = LoraConfig(task_type="CAUSAL_LM") if overrides.pop("lora", False) else None
    resume = overrides.pop("resume", None)
    settings = {
        "output_dir": output_dir,
        "source_column": "source",
        "target_column": "target",
        "learning_rate": 1e-2,
        "max_steps": 3,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    if "RANK" in os.environ:
        settings["ddp_backend"] = "gloo"
    trainer = JEPATrainer(
        tiny_llama(),
        JEPAConfig(**settings | overrides),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tiny_tokenizer(),
        peft_config=adapter,
    )
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_model()
    if trainer.is_world_process_zero():
        report = {
            "distributed_type": trainer.accelerator.distributed_type.value,
            "num_processes": trainer.accelerator.num_processes,
            "log": [entry for entry in trainer.state.log_history if "lm_loss" in entry],
        }
        Path(output_dir, "report.json").write_text(json.dumps(report))
    leave(trainer)


if __name__ == "__main__":
    main(*sys.argv[1:])
