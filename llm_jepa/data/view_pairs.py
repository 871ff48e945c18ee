"""Rows with several pairs of views -> one row for each pair: of more than two views, or of a conversation's turns."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, pairwise
from typing import Any, Literal

from datasets import Dataset, Features, Value
from trl.data_utils import get_dataset_column_names

from llm_jepa.data.rows import PAIR_COLUMNS, PREPARATION_VERSION, TEMPLATE_COLUMNS, AnyDataset, ColumnMapping
from llm_jepa.data.turns import target_turns, to_messages, turn_column
from llm_jepa.settings.view_fields import MissingViewError, ViewField, find_fields

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def expand_rows(
    dataset: AnyDataset, mapping: ColumnMapping, num_proc: int | None = None, keeps_columns: bool = False
) -> AnyDataset:
    """One row for each pair of `view_columns`, or, with `target_turn: all`, for each turn that may be a target.

    The rows of a pair stand where their row stood, in the order of their views or turns, so that a row's number among
    them is the same in every run; other data sets stay as they are. Of V views a chain has V - 1 pairs, all are
    V (V - 1) / 2, and each pair computes both its views: a view in two pairs is computed twice.

    Args:
        dataset: Rows as published, of any form.
        mapping: Which views, in which pairs, and what a missing one means.
        num_proc: Processes that map it; a stream has none.
        keeps_columns: Whether columns stay that no view needs.

    Raises:
        ValueError: A column is missing, a view is missing (with `missing_views: error`) or no text, or no pair is
            left. The message names the row among those that were given.
    """
    columns = get_dataset_column_names(dataset)
    expand: Callable[[Row], list[Row]]
    added: tuple[str, ...] = ()
    if mapping.view_columns is not None:
        fields = find_fields(mapping.view_columns, columns)
        read = {name for field in fields for name in field.columns}
        expand, added = partial(_pairs_of_views, fields, mapping.view_pairs, mapping.missing_views), PAIR_COLUMNS
    elif mapping.target_turn == "all" and mapping.pair is None and (column := turn_column(columns)) is not None:
        read, expand = {column}, partial(pairs_of_turns, column)
    else:
        return dataset
    if not keeps_columns:
        columns = [name for name in columns if name in read or name in TEMPLATE_COLUMNS]
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
    """The types of what is stored, which a first batch without rows would not tell; a stream stores nothing."""
    if not isinstance(dataset, Dataset):
        return {}
    return {"features": Features(dataset.features | {name: Value("string") for name in added}), "num_proc": num_proc}


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
            rows += ({**row, **pair} for pair in expand(row))
        except ValueError as error:
            raise ValueError(f"Row {index}: {error}") from error
    return {name: [row[name] for row in rows] for name in dict.fromkeys([*batch, *added])}


def _pairs_of_views(
    fields: list[ViewField], kind: Literal["chain", "all"] | None, missing: Literal["error", "skip"], row: Row
) -> list[Row]:
    texts = list(_texts(fields, missing, row))
    pairs = _pairs(texts, kind)
    return [dict(zip(PAIR_COLUMNS, pair, strict=True)) for pair in pairs if None not in pair]


def _texts(fields: list[ViewField], missing: Literal["error", "skip"], row: Row) -> Iterator[str | None]:
    """The text of each view, None for one that is missing and may be."""
    for field in fields:
        try:
            text = field.text(row)
            if not text.strip():
                raise MissingViewError(f"the view {field.expression!r} is empty.")
        except MissingViewError as error:
            if missing == "error":
                raise ValueError(f"{error} `missing_views: skip` leaves out the pairs of a missing view.") from error
            yield None
        else:
            yield text


def _pairs(views: list[Any], kind: Literal["chain", "all"] | None) -> list[tuple[Any, Any]]:
    return list(combinations(views, 2) if kind == "all" else pairwise(views))


def pairs_of_turns(column: str, row: Row) -> list[Row]:
    """A row for each turn that may be a target, up to that turn; ValueError if there is none."""
    return [{column: row[column][: turn + 1]} for turn in target_turns(to_messages(row[column], column))]


def _report_skipped(num_pairs: int, num_left: int) -> None:
    if num_left == 0:
        raise ValueError(f"None of the {num_pairs} pairs of views has both of them.")
    if num_left < num_pairs:
        logger.warning("Left out %d of %d pairs of views: a view is missing.", num_pairs - num_left, num_pairs)
