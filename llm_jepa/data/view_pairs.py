"""Expands rows with several pairs of views, from `view_columns` or from turns, into one row for each pair."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import Any, Literal

from datasets import Dataset, Features, Value

from llm_jepa.data.cache_key import PREPARATION_VERSION
from llm_jepa.data.column_mapping import PAIR_COLUMNS, ColumnMapping
from llm_jepa.data.rows import CHAT_TEMPLATE_COLUMNS, ORIGINAL_ROW_COLUMN, AnyDataset, RowError, column_names
from llm_jepa.data.turns import SYSTEM_COLUMN, target_turn_indices, to_messages, turn_column
from llm_jepa.settings.view_fields import MissingViewError, ViewField, find_fields

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def expand_rows(
    dataset: AnyDataset, mapping: ColumnMapping, num_proc: int | None = None, keeps_columns: bool = False
) -> AnyDataset:
    """Make one row for each pair of `view_columns`, or, with `target_turn: all`, for each turn that can be a target.

    The new rows replace their row in place, in the order of its views or turns, so that row numbers are the same in
    every run. `ORIGINAL_ROW_COLUMN` has the number of their row. Other data sets, and those that were expanded, are
    returned unchanged. V views make V - 1 pairs with `view_pairs: chain` and V (V - 1) / 2 with `all`. Each pair
    computes both its views: a view in two pairs is computed twice.

    Args:
        dataset: Rows as published, of any form.
        mapping: Its views and pairs, and whether a missing view is an error.
        num_proc: Number of processes; a stream ignores it.
        keeps_columns: Whether to keep columns that no view needs.

    Raises:
        ValueError: A column is missing, a view is missing (with `missing_views: error`) or not a string, or no pair is
            left. The message names the row by its number in `dataset`.
    """
    columns = column_names(dataset)
    if ORIGINAL_ROW_COLUMN in columns:
        return dataset
    expand: Callable[[Row], list[Row]]
    added: tuple[str, ...] = ()
    if mapping.view_columns is not None:
        fields = find_fields(mapping.view_columns, columns)
        read = {name for field in fields for name in field.columns}
        expand, added = partial(_pairs_of_views, fields, mapping.view_pairs, mapping.missing_views), PAIR_COLUMNS
    elif mapping.target_turn == "all" and mapping.pair is None and (column := turn_column(columns)) is not None:
        read, expand = {column, SYSTEM_COLUMN}, partial(pairs_of_turns, column)
    else:
        return dataset
    if not keeps_columns:
        columns = [name for name in columns if name in read or name in CHAT_TEMPLATE_COLUMNS]
        dataset = dataset.select_columns(columns)
    expanded = dataset.map(
        _expand_batch,
        batched=True,
        with_indices=True,
        fn_kwargs={"expand": expand, "added": added, "version": PREPARATION_VERSION},
        **_storage(dataset, added, num_proc),
    )
    if isinstance(dataset, Dataset) and mapping.view_columns is not None:
        _report_skipped(len(dataset) * len(_pairs(list(mapping.view_columns), mapping.view_pairs)), len(expanded))
    return expanded


def _storage(dataset: AnyDataset, added: tuple[str, ...], num_proc: int | None) -> dict[str, Any]:
    """Arguments of `map`, none for a stream: `num_proc` and the column types, which an empty first batch hides."""
    if not isinstance(dataset, Dataset):
        return {}
    types = {name: Value("string") for name in added} | {ORIGINAL_ROW_COLUMN: Value("int64")}
    return {"features": Features(dataset.features | types), "num_proc": num_proc}


def _expand_batch(
    batch: dict[str, list[Any]],
    indices: list[int],
    expand: Callable[[Row], list[Row]],
    added: tuple[str, ...],
    version: int,
) -> dict[str, list[Any]]:
    rows: list[Row] = []
    for position, index in enumerate(indices):
        row = {name: values[position] for name, values in batch.items()}
        try:
            rows += ({**row, **pair, ORIGINAL_ROW_COLUMN: index} for pair in expand(row))
        except ValueError as error:
            raise RowError(index, str(error)) from error
    return {name: [row[name] for row in rows] for name in dict.fromkeys([*batch, *added, ORIGINAL_ROW_COLUMN])}


def _pairs_of_views(
    fields: list[ViewField], kind: Literal["chain", "all"] | None, missing: Literal["error", "skip"], row: Row
) -> list[Row]:
    texts = list(_texts(fields, missing, row))
    pairs = _pairs(texts, kind)
    return [dict(zip(PAIR_COLUMNS, pair, strict=True)) for pair in pairs if None not in pair]


def _texts(fields: list[ViewField], missing: Literal["error", "skip"], row: Row) -> Iterator[str | None]:
    """The text of each view, or None for a missing one with `missing_views: skip`."""
    for field in fields:
        try:
            text = field.text(row)
            if not text.strip():
                raise MissingViewError(f"the view {field.expression!r} is empty.")
        except MissingViewError as error:
            if missing == "error":
                raise ValueError(
                    f"{error} Set `missing_views: skip` to leave out the pairs of a missing view."
                ) from error
            yield None
        else:
            yield text


def _pairs(views: list[Any], kind: Literal["chain", "all"] | None) -> list[tuple[Any, Any]]:
    return list(combinations(views, 2) if kind == "all" else pairwise(views))


def pairs_of_turns(column: str, row: Row) -> list[Row]:
    """For each turn that can be a target, the conversation up to it. Raises ValueError if there is none."""
    return [{column: row[column][: turn + 1]} for turn in target_turn_indices(to_messages(row[column], column))]


def _report_skipped(num_pairs: int, num_left: int) -> None:
    if num_left == 0:
        raise ValueError(f"All {num_pairs} pairs of views lack at least one view.")
    if num_left < num_pairs:
        logger.warning("Left out %d of %d pairs of views: a view is missing.", num_pairs - num_left, num_pairs)
