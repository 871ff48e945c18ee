"""Rows that come as token ids: what they must hold, and what is added to them."""

from typing import Any

from llm_jepa.config import JEPAConfig
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.rows import (
    SPAN_COLUMNS,
    STEP_COLUMN,
    TOKENISED_COLUMNS,
    VIEW_TOKEN_COLUMNS,
    AnyDataset,
    column_names,
    map_rows,
)
from llm_jepa.data.spans import spans_of_text
from llm_jepa.data.views import IGNORED_LABEL, is_prefix
from llm_jepa.settings.objectives import needs_spans, needs_steps, needs_views


def check_tokenised(
    dataset: AnyDataset, args: JEPAConfig, mapping: ColumnMapping, special_ids: frozenset[int]
) -> AnyDataset:
    """Number pre-tokenised rows, and complete the columns of the objectives.

    Raises:
        ValueError: A column is missing or holds what it must not, or an option has no effect on such rows.
    """
    columns = column_names(dataset)
    needed = _needed_columns(args, columns)
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(f"Pre-tokenised rows need the columns {list(needed)}; {missing} are missing among {columns}.")
    if mapping.given_options():
        raise ValueError(
            f"`{'`, `'.join(mapping.given_options())}` would have no effect on pre-tokenised rows. Leave it out."
        )

    has_views = needs_views(args.jepa_objective) and {*VIEW_TOKEN_COLUMNS} <= {*columns}
    makes_spans, has_spans = needs_spans(args.jepa_objective), {*SPAN_COLUMNS} <= {*columns}
    has_steps = needs_steps(args.jepa_objective) and STEP_COLUMN in columns
    is_prefix_view = args.jepa_source_view == "prefix"

    def check(row: dict[str, Any]) -> dict[str, Any]:
        _check_labels(row)
        checked = _checked_views(row, is_prefix_view) if has_views else {}
        if has_steps:
            checked |= _checked_steps(row)
        if makes_spans:
            checked |= _checked_spans(row) if has_spans else spans_of_text(row["input_ids"], special_ids)
        return checked

    return map_rows(dataset, check, args.dataset_num_proc)


def _needed_columns(args: JEPAConfig, columns: list[str]) -> tuple[str, ...]:
    """The columns that pre-tokenised rows must have. Rows with pairs need spans; a plain text is one span. Steps are
    found in a text alone.
    """
    if args.jepa_weight == 0:
        return TOKENISED_COLUMNS
    views = VIEW_TOKEN_COLUMNS if needs_views(args.jepa_objective) else ()
    has_pairs = views or {*VIEW_TOKEN_COLUMNS, *SPAN_COLUMNS} & {*columns}
    spans = SPAN_COLUMNS if needs_spans(args.jepa_objective) and has_pairs else ()
    steps = (STEP_COLUMN,) if needs_steps(args.jepa_objective) else ()
    return (*TOKENISED_COLUMNS, *views, *spans, *steps)


def _check_labels(row: dict[str, Any]) -> None:
    input_ids, labels = row["input_ids"] or [], row["labels"] or []
    if len(input_ids) != len(labels):
        raise ValueError(
            f"there are {len(input_ids)} `input_ids` and {len(labels)} `labels`; both must have one length."
        )
    if all(label == IGNORED_LABEL for label in labels[1:]):
        raise ValueError(f"the row has nothing to learn: all `labels` after the first are {IGNORED_LABEL}.")


def _checked_views(row: dict[str, Any], is_prefix_view: bool) -> dict[str, Any]:
    views: dict[str, Any] = {}
    for name in ("source", "target"):
        token_ids, start = row[f"{name}_ids"], row.get(f"{name}_start", 0)
        if not token_ids:
            raise ValueError(f"`{name}_ids` is empty.")
        if not 0 <= start < len(token_ids):
            raise ValueError(f"`{name}_start` is {start}; allowed are 0 to {len(token_ids) - 1}.")
        views |= {f"{name}_ids": token_ids, f"{name}_start": start}
    if is_prefix_view and not is_prefix(row["source_ids"], row["input_ids"]):
        raise ValueError("with `jepa_source_view: prefix`, `source_ids` must be the first tokens of `input_ids`.")
    return views


def _checked_spans(row: dict[str, Any]) -> dict[str, Any]:
    source, target, length = list(row["source_span"]), list(row["target_span"]), len(row["input_ids"])
    bounds = [1, *source, *target, length]
    if not len(source) == len(target) == 2 or bounds != sorted(bounds):
        raise ValueError(
            f"`source_span` is {source} and `target_span` {target}; both must be [start, end) with 1 <= source's "
            f"start <= its end <= target's start <= its end <= {length}, the row's tokens."
        )
    return {"source_span": source, "target_span": target}


def _checked_steps(row: dict[str, Any]) -> dict[str, Any]:
    ends, length = list(row[STEP_COLUMN] or []), len(row["input_ids"])
    if ends != sorted(set(ends)) or not all(0 <= end < length for end in ends):
        raise ValueError(
            f"`{STEP_COLUMN}` is {ends}; it must be rising positions of the row's {length} tokens, from 0."
        )
    return {STEP_COLUMN: ends}
