"""Every recipe of recipes/vl trains two steps on tiny random models of its own classes."""

import json
import os
from pathlib import Path

import pytest

from llm_jepa.train import train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import parse_any_recipe
from tests.vision.tiny_parts import colour_rows, saved

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "vl").glob("*.yaml"))
TINY = {
    "facebook/vjepa2-vitl-fpc64-256": "vjepa2",
    "google/siglip2-base-patch16-224": "siglip",
    "meta-llama/Llama-3.2-1B": "llama",
    "Qwen/Qwen3-0.6B-Base": "qwen3",
    "google/embeddinggemma-300m": "gemma3",
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
}
SMALL = {
    "max_steps": 2, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "use_cpu": "true",
    "bf16": "false", "disable_tqdm": "true", "predictor_layers": 2, "embedding_size": 12, "num_frames": 2,
    "logging_steps": 1, "save_strategy": "no", "load_best_model_at_end": "false", "eval_steps": 2,
    "dataset_test_split": "train",
}  # fmt: skip


def overrides(path: Path, directory: Path, output_dir: str) -> list[str]:
    settings = parse_any_recipe([str(path)]).settings
    parts = [(key, saved(TINY[settings[key]])) for key in ("vision_encoder", "language_model", "text_encoder")]
    parts += [("dataset_name", str(directory / "rows.jsonl")), ("output_dir", output_dir)]
    if "feature_cache" in settings:
        parts.append(("feature_cache", str(directory / "features")))
    return [f"--{key}={value}" for key, value in [*SMALL.items(), *parts]]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_two_steps(path, tmp_path):
    rows = colour_rows(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert os.access(path, os.X_OK)
    settings, argv = parse_any_recipe([str(path)]).settings, []
    if "model_name_or_path" in settings:
        first = next(one for one in RECIPES if one.stem == Path(settings["model_name_or_path"]).name)
        train(parse_any_recipe([str(first), *overrides(first, tmp_path, str(tmp_path / "first"))]))
        argv = ["--model_name_or_path", str(tmp_path / "first")]
    recipe = parse_any_recipe([str(path), *overrides(path, tmp_path, str(tmp_path / "run")), *argv])
    trainer = train(recipe)
    assert trainer is not None
    assert [entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry] == [True, True]
    parts = TINY[settings["vision_encoder"]], TINY[settings["language_model"]], TINY[settings["text_encoder"]]
    model = VLJEPAModel.from_pretrained(tmp_path / "run")
    kinds = [
        getattr(model, part).config.model_type.split("_")[0]
        for part in ("vision_encoder", "predictor", "text_encoder")
    ]
    assert tuple(kinds) == parts


def test_second_stages_name_their_first_stage():
    stages = [path.stem for path in RECIPES if "model_name_or_path" in parse_any_recipe([str(path)]).settings]
    assert stages == ["paper-2-questions", "siglip2-qwen3-2-questions"]
