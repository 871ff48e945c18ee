"""Every recipe of recipes/vl trains two steps on tiny random models of its own classes."""

import json
import os
from pathlib import Path

import pytest

from llm_jepa.train import train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import parse_any_recipe
from tests.vision.tiny_parts import COLOURS, colour_rows, saved

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "vl").glob("*.yaml"))
TINY = {
    "facebook/vjepa2-vitl-fpc64-256": "vjepa2",
    "google/siglip2-base-patch16-224": "siglip",
    "meta-llama/Llama-3.2-1B": "llama",
    "Qwen/Qwen3-0.6B-Base": "qwen3",
    "google/embeddinggemma-300m": "gemma3",
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
    "efficientnet-lite0": "resnet",  # a convolutional encoder too
    "smollm2-135m-instruct": "llama",
    "minilm-l6-v2": "bert",
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


def first_stage(path: Path) -> Path | None:
    """The recipe whose model a second stage begins with."""
    model = parse_any_recipe([str(path)]).settings.get("model_name_or_path")
    return next(
        (one for one in RECIPES if model and parse_any_recipe([str(one)]).settings["output_dir"] == model), None
    )


FIRST_STAGES = {first_stage(path) for path in RECIPES}


@pytest.mark.parametrize("last", [path for path in RECIPES if path not in FIRST_STAGES], ids=lambda path: path.stem)
def test_a_recipe_trains_two_steps_after_its_first_stage(last, tmp_path):
    rows = [{**row, "candidates": [*COLOURS]} for row in colour_rows(tmp_path)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings, model_dir = parse_any_recipe([str(last)]).settings, None
    for path in filter(None, (first_stage(last), last)):
        assert os.access(path, os.X_OK)
        output_dir = str(tmp_path / path.stem)
        more = [] if model_dir is None else [f"--model_name_or_path={model_dir}"]
        trainer = train(parse_any_recipe([str(path), *overrides(path, tmp_path, output_dir), *more]))
        assert trainer is not None
        assert [entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry] == [True, True]
        model_dir = output_dir
    parts = TINY[settings["vision_encoder"]], TINY[settings["language_model"]], TINY[settings["text_encoder"]]
    model = VLJEPAModel.from_pretrained(model_dir)
    encoders = model.vision_encoder, model.predictor, model.text_encoder
    assert tuple(part.config.model_type.split("_")[0] for part in encoders) == parts


def test_second_stages_begin_with_a_recipe_that_is_there():
    seconds = [path for path in RECIPES if "model_name_or_path" in parse_any_recipe([str(path)]).settings]
    assert [first_stage(path).stem for path in seconds] == ["paper-1-captions", "siglip2-qwen3-1-captions"]
