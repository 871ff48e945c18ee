"""Which of the evaluated rows a run trained on."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_jepa.data.loading import load_split
from llm_jepa.data.local_splits import source_of
from llm_jepa.data.preparation import read_excluded_rows
from llm_jepa.data.row_keys import Key, pair_key, pair_keys
from llm_jepa.data.rows import has_pairs, is_tokenised
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.models.run_mapping import mapping_of_run
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import RECIPE_FILE
from llm_jepa.settings.reading import read_settings

logger = logging.getLogger(__name__)


def count_rows_trained_on(recipe: Recipe, rows: Sequence[HeldOutRow]) -> int | None:
    """How many of the rows have a source and target that are in the train split of the run in `output_dir`.

    Logs a warning if any has. None if that is not known: there is no recipe, its data are a stream, no texts or not
    here, or they are on the Hub and not those that are evaluated.
    """
    path = recipe.output_dir / RECIPE_FILE
    has_template = not any(isinstance(row.prompt, str) for row in rows)
    keys = _keys_of_run(read_settings(path), recipe, has_template) if path.is_file() else None
    if keys is None:
        return None
    shared = [row.row_index for row in rows if pair_key(row.prompt, row.source, row.gold) in keys]
    if shared:
        logger.warning(
            f"{len(shared)} of the {len(rows)} evaluated rows are in the train split of the run in `{path.parent}` "
            f"(the first is row {shared[0]}): a score on rows that were trained on proves nothing."
        )
    return len(shared)


def _keys_of_run(settings: Mapping[str, Any], evaluated: Recipe, has_chat_template: bool) -> set[Key] | None:
    """The rows that a run with these settings trained on, as `pair_key`s."""
    source, other = source_of(settings), evaluated.script
    is_here = Path(source.dataset_name or "").expanduser().exists()
    is_same = (source.dataset_name, source.dataset_config) == (other.dataset_name, other.dataset_config)
    if source.dataset_streaming or not (is_here or is_same):
        return None
    mapping, excluded_rows = mapping_of_run(settings), settings.get("excluded_rows")
    try:
        dataset = load_split(source, source.dataset_train_split)
        if is_tokenised(dataset) or not has_pairs(dataset, mapping):
            return None
        keys = pair_keys(dataset, mapping, has_chat_template)
        excluded = () if excluded_rows is None else read_excluded_rows(Path(excluded_rows))
    except ValueError as error:
        logger.warning(f"Whether the run trained on rows that are evaluated is not known: {error}")
        return None
    return {key for index, key in enumerate(keys) if index not in excluded}
