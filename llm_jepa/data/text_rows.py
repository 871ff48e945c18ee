"""Rows of texts that come without a data set, rendered as a run's training renders its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.rows import AnyDataset, column_names, is_tokenised, row_maker
from llm_jepa.data.turns import turn_column


def has_plain_prompts(dataset: AnyDataset | None, mapping: ColumnMapping) -> bool:
    """Whether rows are plain text, or strings `prompt` and `completion`: no chat template renders them."""
    if dataset is None or mapping.pair is not None or is_tokenised(dataset):
        return False
    columns = {*column_names(dataset)}
    if {"prompt", "completion"} <= columns:
        return isinstance(next(iter(dataset), {"prompt": None})["prompt"], str)
    return turn_column(columns) is None


def text_row_maker(options: Any, has_chat_template: bool, is_plain: bool) -> Callable[[str, str], dict[str, Any]]:
    """The function that makes a row of a source and a target.

    Args:
        options: Those of training: `system_prompt` and `chat_template_kwargs`.
        is_plain: What `has_plain_prompts` says of the rows of training.
    """
    columns = ("prompt", "completion") if is_plain else ("source", "target")
    named = ColumnMapping() if is_plain else ColumnMapping(*columns)
    rendering = {name: getattr(options, name) for name in ("system_prompt", "chat_template_kwargs")}
    to_row, _ = row_maker([*columns], replace(named, **rendering), has_chat_template)
    return lambda source, target: to_row(dict(zip(columns, (source, target), strict=True)))
