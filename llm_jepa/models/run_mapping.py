"""How a run made prompts of its rows, and where a recipe makes others of them."""

import logging
from collections.abc import Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from llm_jepa.data.rows import ColumnMapping
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import RECIPE_FILE
from llm_jepa.settings.reading import read_settings
from llm_jepa.settings.schema import known_settings

logger = logging.getLogger(__name__)

KEYS_OF_ANY_DATA = ("system_prompt", "chat_template_kwargs")
"""Settings of a mapping that are to be the run's also where other data are evaluated, which have other columns."""


def mapping_of_run(settings: Mapping[str, Any]) -> ColumnMapping:
    """The mapping of a run's recorded settings, defaults in the place of those not given."""
    defaults = {key: setting.default for key, setting in known_settings().items()}
    options: Any = SimpleNamespace(**{**defaults, **settings})
    return ColumnMapping.from_args(options)


def warn_of_other_prompts(recipe: Recipe) -> None:
    """Log a warning if the recipe makes other prompts than the run in its `output_dir` was trained on.

    The chat template is not compared: it is read from the run.
    """
    path = recipe.output_dir / RECIPE_FILE
    if not path.is_file():
        return
    settings = read_settings(path)
    there = mapping_of_run(settings).of_conversation()
    here = ColumnMapping.from_args(recipe.training).of_conversation()
    keys = [field.name for field in fields(ColumnMapping)]
    if settings.get("dataset_name") != recipe.settings.get("dataset_name"):
        keys = [*KEYS_OF_ANY_DATA]
    different = [
        f"`{key}` is {getattr(there, key)!r} there and {getattr(here, key)!r} here"
        for key in keys
        if getattr(there, key) != getattr(here, key)
    ]
    if different:
        logger.warning(
            f"The run in `{path.parent}` was trained on other prompts than it is given now: {'; '.join(different)}. "
            "Use the settings of the run, unless that is what you test."
        )
