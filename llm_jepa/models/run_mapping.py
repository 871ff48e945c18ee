"""How a run made prompts of its rows, and where a recipe makes others of them."""

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.models.latent_predictor import has_latent_predictor, read_facts
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import has_plain_prompts, record_folder, settings_of_run
from llm_jepa.settings.schema import known_settings

logger = logging.getLogger(__name__)

KEYS_OF_ANY_DATA = ("system_prompt", "chat_template_kwargs")
"""Settings of a mapping that are to be the run's also where other data are evaluated, which have other columns."""


def renders_plain_prompts(directory: Path) -> bool:
    """Whether the prompts of a run, or of one that was merged, are plain strings that no chat template renders.

    Its record says so, or its latent predictor. If neither does, a warning is logged and the answer is no.

    Raises:
        ValueError: A file of the record cannot be read.
    """
    is_plain = has_plain_prompts(directory)
    if is_plain is None and has_latent_predictor(directory):
        is_plain = read_facts(directory).has_plain_prompts
    settings = settings_of_run(directory)
    if is_plain is None and settings and mapping_of_run(settings).pair is None:
        logger.warning(
            f"Whether the run in `{directory}` was trained on plain strings `prompt` and `completion` is not "
            "recorded: an earlier version trained or published it. Its prompts are rendered as chats. Push it again "
            "from the run's own directory to have it recorded."
        )
    return bool(is_plain)


def mapping_of_run(settings: Mapping[str, Any]) -> ColumnMapping:
    """The mapping of a run's recorded settings, defaults in the place of those not given."""
    defaults = {key: setting.default for key, setting in known_settings().items()}
    options: Any = SimpleNamespace(**{**defaults, **settings})
    return ColumnMapping.from_args(options)


def warn_of_other_prompts(recipe: Recipe) -> None:
    """Log a warning if the recipe makes other prompts than the run in its `output_dir` was trained on.

    The chat template is not compared: it is read from the run.
    """
    settings = settings_of_run(recipe.output_dir)
    if not settings:
        return
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
            f"The run in `{record_folder(recipe.output_dir)}` was trained on other prompts than it is given now: "
            f"{'; '.join(different)}. Use the settings of the run, unless that is what you test."
        )
