"""A tiny recipe to evaluate, and what the tiny model writes."""

import json

from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.models.checkpoint_choice import choose_checkpoints
from tests.tiny import PAIRS, tiny_tokenizer

LIMIT = 6
CHATS = [[{"role": "user", "content": pair["source"]}] for pair in PAIRS]


def written_by(model):
    return generate_completions(model, tiny_tokenizer(), CHATS, LIMIT, len(CHATS))


def save_recipe(directory, **settings):
    settings = {
        "model_name_or_path": str(directory / "model"),
        "dataset_name": str(directory / "data"),
        "output_dir": str(directory / "run"),
        "source_column": "source",
        "target_column": "target",
        "bf16": False,
    } | settings
    path = directory / "recipe.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return path


def checkpoints_of(recipe, wanted=None):
    return choose_checkpoints(recipe.path, recipe.settings, wanted)
