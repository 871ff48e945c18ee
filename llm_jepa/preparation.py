"""A data set of any supported form -> tokenised rows with views, the too long ones dropped or refused."""

import logging
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl.data_utils import get_dataset_column_names

from llm_jepa.config import JEPAConfig
from llm_jepa.rows import (
    ROW_COLUMNS,
    TOKENISED_COLUMNS,
    AnyDataset,
    ColumnMapping,
    has_pairs,
    is_tokenised,
    to_rows,
)
from llm_jepa.views import ViewMaker, is_prefix, longest_sequence_tokens

logger = logging.getLogger(__name__)


def prepare_dataset(
    dataset: AnyDataset,
    args: JEPAConfig,
    tokenizer: PreTrainedTokenizerBase,
    tokenise: Callable[[AnyDataset], AnyDataset],
    name: str,
) -> AnyDataset:
    """Rows with `input_ids`, `labels`, `source_ids`, `source_start`, `target_ids`, `target_start`, `row_index`.

    Args:
        dataset: Rows of any form that `llm_jepa.rows` knows, or pre-tokenised ones.
        args: Column mapping, kind of source view, `max_length` and `long_rows`.
        tokenizer: The model's.
        tokenise: TRL's preparation, which tokenises the conversations and labels their completions.
        name: What to call the data set in messages.

    Raises:
        ValueError: A column is missing, a view is empty or cannot be rendered, a row is too long with
            `long_rows: error`, or no row is left.
    """
    mapping = ColumnMapping.from_args(args)
    if is_tokenised(dataset):
        dataset = _check_tokenised(dataset, args, mapping)
        dataset = tokenise(dataset)
    elif args.jepa_weight == 0 and not has_pairs(dataset, mapping):
        return tokenise(dataset.map(lambda row, index: {"row_index": index}, with_indices=True))
    else:
        dataset = to_rows(dataset, mapping, tokenizer.chat_template is not None)
        dataset = add_views(tokenise(dataset), tokenizer, args)
    return drop_long_rows(dataset, args, name)


def add_views(dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, args: JEPAConfig) -> AnyDataset:
    """Add the views' token ids to rows that TRL has tokenised."""
    make_views = ViewMaker(tokenizer, args.jepa_source_view)

    def with_views(row: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            return {**make_views(row), "row_index": index}
        except ValueError as error:
            raise ValueError(f"Row {index}: {error}") from error

    return dataset.map(with_views, with_indices=True, remove_columns=list(ROW_COLUMNS))


def drop_long_rows(dataset: AnyDataset, args: JEPAConfig, name: str) -> AnyDataset:
    """Keep the rows of which no sequence exceeds `max_length`; see `long_rows`."""
    limit = args.max_length
    if limit is None:
        return dataset

    def fits(row: dict[str, Any]) -> bool:
        tokens = longest_sequence_tokens(row, args.num_predictor_tokens)
        if tokens > limit and args.long_rows == "error":
            raise ValueError(
                f"Row {row['row_index']} of the {name} data has {tokens} tokens; `max_length` is {limit}. Raise it or "
                "set `long_rows: drop`."
            )
        return tokens <= limit

    kept = dataset.filter(fits)
    if isinstance(dataset, Dataset):
        if len(kept) == 0:
            raise ValueError(
                f"All {len(dataset)} rows of the {name} data are longer than `max_length: {limit}`. Raise it."
            )
        if len(kept) < len(dataset):
            logger.warning(
                "Dropped %d of %d rows of the %s data: longer than max_length %d.",
                len(dataset) - len(kept), len(dataset), name, limit,
            )  # fmt: skip
    return kept


def _check_tokenised(dataset: AnyDataset, args: JEPAConfig, mapping: ColumnMapping) -> AnyDataset:
    """Pre-tokenised rows with all columns, checked row by row."""
    columns = get_dataset_column_names(dataset)
    missing = [name for name in TOKENISED_COLUMNS if name not in columns]
    if missing and not (args.jepa_weight == 0 and "labels" not in missing):
        raise ValueError(
            f"Pre-tokenised rows need the columns {list(TOKENISED_COLUMNS)}; {missing} missing among {columns}."
        )
    if mapping != ColumnMapping():
        raise ValueError("`source_column`, `target_column` and `system_prompt` have no effect on pre-tokenised rows.")

    def check(row: dict[str, Any], index: int) -> dict[str, Any]:
        source_ids, target_ids = row.get("source_ids", [0]), row.get("target_ids", [0])
        if not source_ids or not target_ids:
            raise ValueError(f"Row {index}: `source_ids` or `target_ids` is empty.")
        if args.jepa_source_view == "prefix" and not is_prefix(source_ids, row["input_ids"]):
            raise ValueError(
                f"Row {index}: with `jepa_source_view: prefix`, `source_ids` must be the first tokens of `input_ids`."
            )
        starts = {name: row.get(name, 0) for name in ("source_start", "target_start")}
        return {"source_ids": source_ids, "target_ids": target_ids, **starts, "row_index": index}

    return dataset.map(check, with_indices=True)
