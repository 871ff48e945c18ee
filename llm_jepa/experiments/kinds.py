"""Chooses what answers for a kind of recipe."""

from collections.abc import Mapping
from typing import Any

from llm_jepa.experiments.interface import RecipeKind
from llm_jepa.experiments.text_kind import TextKind
from llm_jepa.experiments.vision_kind import VisionKind
from llm_jepa.settings.schema import Kind, recipe_kind

KINDS: dict[Kind, RecipeKind] = {"text": TextKind(), "vision": VisionKind()}


def kind_of(settings: Mapping[str, Any]) -> RecipeKind:
    """What answers for recipes with these settings."""
    return KINDS[recipe_kind(settings)]
