"""A recipe of VL-JEPA, read like one of text: one flat YAML, every key overridable on the command line."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_jepa.data.source import DataSource
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.settings.checks import REQUIRED, check_recipe, check_settings
from llm_jepa.settings.reading import recipe_and_overrides
from llm_jepa.settings.schema import recipe_kind
from llm_jepa.vision.config import VisionConfig


@dataclass(frozen=True)
class VisionRecipe:
    """A recipe as read: the settings that were given, and the options that they configure."""

    path: Path
    settings: dict[str, Any]
    """Exactly the keys given, in the recipe's order, overrides applied, each of its own type."""
    training: VisionConfig

    @property
    def output_dir(self) -> Path:
        return Path(self.settings["output_dir"]).expanduser()

    @property
    def source(self) -> DataSource:
        """The data that the recipe names."""
        return self.training.source

    @property
    def base(self) -> tuple[str, str | None]:
        """The name of the language model of which the predictor is made, and its revision."""
        return self.settings["language_model"], None


def parse_any_recipe(argv: list[str], required: Sequence[str] = REQUIRED) -> Recipe | VisionRecipe:
    """Read a recipe of either kind from `[RECIPE.yaml, --key value, ...]`.

    Raises:
        ValueError: As by `llm_jepa.recipe.parse_recipe`.
    """
    path, overrides = recipe_and_overrides(argv)
    return build_any_recipe(path, check_recipe(path, overrides, required), required)


def build_any_recipe(
    path: Path, settings: dict[str, Any], required: Sequence[str] = REQUIRED
) -> Recipe | VisionRecipe:
    """Check typed settings against each other and build a recipe of either kind; `path` is what errors call them.

    Raises:
        ValueError: They contradict each other, or transformers or TRL refuses one.
    """
    if recipe_kind(settings) == "text":
        return build_recipe(path, settings, required)
    check_settings(path, settings, required)
    try:
        training = VisionConfig(**copy.deepcopy(settings))
    except (ValueError, TypeError, ImportError) as error:  # what transformers refuses
        raise ValueError(f"{path}: {error}") from error
    return VisionRecipe(path, settings, training)
