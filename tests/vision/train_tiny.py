"""Trains a tiny VL-JEPA model: what each of several processes runs."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from llm_jepa.training.launch import destroy_process_group
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.trainer import VLJEPATrainer
from tests.vision.tiny_parts import tiny_model


def train_tiny(output_dir: str, rows: list[dict], parts: dict[str, str], options: dict[str, Any]) -> None:
    args = VisionConfig(
        output_dir=output_dir,
        **{
            "learning_rate": 1e-2, "max_steps": 3, "logging_steps": 1, "save_strategy": "no", "use_cpu": True,
            "ddp_backend": "gloo", "disable_tqdm": True,
        } | options,
    )  # fmt: skip
    model = tiny_model(trains_temperature=args.trains_temperature, directories=parts)
    data = Dataset.from_list(rows)
    trainer = VLJEPATrainer(model, args, data, data if args.eval_strategy != "no" else None)
    trainer.train()
    trainer.save_model()
    if trainer.is_world_process_zero():
        report = {"num_processes": trainer.accelerator.num_processes, "log": trainer.state.log_history}
        Path(output_dir, "report.json").write_text(json.dumps(report))
    destroy_process_group(trainer)
