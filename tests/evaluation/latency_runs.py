"""Runs of a tiny model for `llm-jepa latency`: with pairs, with a drafter, and without a latent predictor."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from llm_jepa.models.latent_predictor import DRAFT_TOKENS, facts_of, write_latent_predictor
from llm_jepa.settings.objectives import DYNAMICS_OPTIONS
from tests.inference.drafters import untrained_dynamics
from tests.inference.test_answer_command import write_predictor
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

LIMITS = ["--max_new_tokens", "4", "--max_rows", "3"]


def write_run(directory: Path, name: str, **options: Any) -> None:
    """A model in place of the run NAME, and its recipe NAME.yaml; the data are beside them."""
    rows = [pair | {"options": [pair["target"], PAIRS[i - 1]["target"]]} for i, pair in enumerate(PAIRS)]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_tiny_model(directory / name)
    settings = {
        "model_name_or_path": name, "dataset_name": "rows.jsonl", "dataset_test_split": "train", "output_dir": name,
        "source_column": "source", "target_column": "target", "bf16": False, "use_cpu": True, "report_to": "none",
        "per_device_train_batch_size": 4, "max_steps": 2, "disable_tqdm": True,
    }  # fmt: skip
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(settings | options))


def write_pair_run(directory: Path, **options: Any) -> None:
    write_run(directory, "pairs", **options)
    write_predictor(directory / "pairs")


def write_drafting_run(directory: Path) -> None:
    write_run(directory, "drafts", jepa_objective="next_latent", latent_width=2.0)
    options = dict(zip(DYNAMICS_OPTIONS, ("mlp", None, 2.0, 1), strict=True))
    facts = facts_of(tiny_llama(), tiny_tokenizer(), ("next_latent",), options)
    weights = dict(untrained_dynamics(tiny_llama()).named_parameters())
    write_latent_predictor(directory / "drafts", facts, weights | {DRAFT_TOKENS: torch.arange(2, 300)})
