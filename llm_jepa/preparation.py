"""A data set of any supported form -> tokenised rows with views, the too long ones dropped or refused."""

import logging
from collections.abc import Callable
from typing import Any

from datasets import Dataset
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig
from trl.data_utils import get_dataset_column_names
from trl.trainer.utils import global_then_local_main_first

from llm_jepa.config import JEPAConfig
from llm_jepa.layouts.base import IGNORED_LABEL
from llm_jepa.rows import (
    ROW_COLUMNS,
    TOKENISED_COLUMNS,
    AnyDataset,
    ColumnMapping,
    has_pairs,
    is_prepared,
    is_tokenised,
    map_rows,
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
    if is_prepared(dataset):
        return dataset
    if is_tokenised(dataset):
        _check_text_field(args)
        with global_then_local_main_first():
            dataset = _check_tokenised(dataset, args, mapping)
        dataset = tokenise(dataset)
    elif args.jepa_weight == 0 and not has_pairs(dataset, mapping):
        if mapping.system_prompt is not None:
            raise ValueError("`system_prompt` has no effect on text, which has no turns; leave it out.")
        with global_then_local_main_first():
            dataset = map_rows(dataset, lambda row: {}, args.dataset_num_proc)
        dataset = tokenise(dataset)
    else:
        _check_text_field(args)
        with global_then_local_main_first():
            dataset = to_rows(dataset, mapping, tokenizer.chat_template is not None, args.dataset_num_proc)
        dataset = _tokenise_turns(dataset, tokenise, name)
        with global_then_local_main_first():
            dataset = add_views(dataset, tokenizer, args)
    with global_then_local_main_first():
        return drop_long_rows(dataset, args, name)


def _check_text_field(args: JEPAConfig) -> None:
    if args.dataset_text_field != SFTConfig.dataset_text_field:
        raise ValueError(
            f"`dataset_text_field: {args.dataset_text_field}` has no effect on these data, whose rows are no plain "
            "text. Leave it out."
        )


def _tokenise_turns(dataset: AnyDataset, tokenise: Callable[[AnyDataset], AnyDataset], name: str) -> AnyDataset:
    try:
        return tokenise(dataset)
    except TemplateError as error:
        raise ValueError(
            f"The chat template cannot render the {name} data: {error}. Change the turns (`system_prompt` adds "
            "one), or set another template with `chat_template_path`."
        ) from error


def add_views(dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, args: JEPAConfig) -> AnyDataset:
    """Add the views' token ids to rows that TRL has tokenised, and perhaps shuffled."""
    make_views = ViewMaker(tokenizer, args.jepa_source_view)
    return map_rows(dataset, make_views, args.dataset_num_proc, remove_columns=ROW_COLUMNS, is_numbered=True)


def drop_long_rows(dataset: AnyDataset, args: JEPAConfig, name: str) -> AnyDataset:
    """Keep the rows of which no sequence exceeds `max_length`; see `long_rows`."""
    limit = args.max_length
    if limit is None:
        return dataset

    num_predictor_tokens, refuses = args.num_predictor_tokens, args.long_rows == "error"

    def fits(row: dict[str, Any]) -> bool:  # closes over no more than it needs: `datasets` caches by a hash of it
        tokens = longest_sequence_tokens(row, num_predictor_tokens)
        if tokens > limit and refuses:
            raise ValueError(
                f"Row {row['row_index']} of the {name} data has {tokens} tokens; `max_length` is {limit}. Raise it or "
                "set `long_rows: drop`."
            )
        return tokens <= limit

    if not isinstance(dataset, Dataset):
        return dataset.filter(_FirstDropLogged(fits, args, name))
    kept = dataset.filter(fits, num_proc=args.dataset_num_proc)
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


class _FirstDropLogged:
    """A filter of a stream, whose dropped rows nobody can count before its end: it tells of the first."""

    def __init__(self, fits: Callable[[dict[str, Any]], bool], args: JEPAConfig, name: str):
        self.fits = fits
        self.limit, self.num_predictor_tokens, self.name = args.max_length, args.num_predictor_tokens, name
        self.has_dropped = False

    def __call__(self, row: dict[str, Any]) -> bool:
        is_kept = self.fits(row)
        if not is_kept and not self.has_dropped:
            self.has_dropped = True
            logger.warning(
                "Dropped row %d of the %s data: it has %d tokens, max_length is %d. Further rows of this stream that "
                "are too long are dropped without a word.",
                row["row_index"], self.name, longest_sequence_tokens(row, self.num_predictor_tokens), self.limit,
            )  # fmt: skip
        return is_kept


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

    has_views = not {"source_ids", "target_ids"} & {*missing}
    is_prefix_view = args.jepa_source_view == "prefix"

    def check(row: dict[str, Any]) -> dict[str, Any]:
        _check_labels(row)
        return _checked_views(row, is_prefix_view) if has_views else {}

    return map_rows(dataset, check, args.dataset_num_proc)


def _check_labels(row: dict[str, Any]) -> None:
    input_ids, labels = row["input_ids"] or [], row["labels"] or []
    if len(input_ids) != len(labels):
        raise ValueError(f"there are {len(input_ids)} `input_ids` and {len(labels)} `labels`; they must be as many.")
    if all(label == IGNORED_LABEL for label in labels[1:]):
        raise ValueError(f"no token is to be learned: all `labels` after the first are {IGNORED_LABEL}.")


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
