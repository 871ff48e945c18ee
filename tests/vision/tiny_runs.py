"""A finished run of a tiny VL-JEPA model, as `llm-jepa train` leaves it."""

import json
from pathlib import Path

import yaml

from llm_jepa.runs.record import record_start
from tests.vision.tiny_parts import colour_rows, saved, tiny_model


def tiny_run(directory: Path) -> Path:
    """Its directory; the pictures of `COLOURS` and its rows, which it trains and is tested on, are beside it."""
    rows = directory / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in colour_rows(directory)))
    run = directory / "run"
    settings = {
        "vision_encoder": saved("dinov2"),
        "language_model": saved("qwen3"),
        "text_encoder": saved("bert"),
        "predictor_layers": 2,
        "embedding_size": 12,
        "dataset_name": str(rows),
        "dataset_test_split": "train",
        "output_dir": str(run),
        "use_cpu": True,
    }
    names = ("vision_encoder", "language_model", "text_encoder")
    tiny_model(language="qwen3", part_names={name: settings[name] for name in names}).save_pretrained(run)
    record_start(run, settings, "cpu", 1, None, {})
    state = {"global_step": 3, "epoch": 1.0, "log_history": [{"train_runtime": 61.0, "step": 3}]}
    (run / "trainer_state.json").write_text(json.dumps(state))
    assert yaml.safe_load((run / "recipe.yaml").read_text()) == settings
    return run
