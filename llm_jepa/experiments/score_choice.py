"""The scores that an experiment can decide by, for each kind of recipe. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from llm_jepa.scoring.tasks import score_names
from llm_jepa.settings.schema import known_settings, recipe_kind

ACCURACY = "accuracy"
"""The score of VL-JEPA; the data set's kinds of questions have one each beside it, `accuracy_KIND`."""


def possible_scores(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The scores that settings of a recipe allow as `primary_score`, the default first."""
    if recipe_kind(settings) == "vision":
        return (ACCURACY,)
    return score_names(settings.get("task", known_settings()["task"].default), settings.get("extract", "none"))
