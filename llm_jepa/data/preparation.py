"""A data set of any supported form -> tokenised rows with views; rows that are too long are dropped or refused."""

import json
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from datasets import Dataset, Features
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig
from trl.trainer.utils import global_then_local_main_first

from llm_jepa.config import JEPAConfig
from llm_jepa.data.cache_key import PREPARATION_VERSION
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.findings import find_in_row, replaces_trl_warning, report_findings
from llm_jepa.data.json_types import AnyJson
from llm_jepa.data.partners import PARTNER_COLUMN, with_shuffled_partners
from llm_jepa.data.rows import (
    OWN_VIEW_COLUMNS,
    ROW_COLUMNS,
    AnyDataset,
    RowError,
    column_names,
    has_pairs,
    is_prepared,
    is_tokenised,
    map_rows,
    to_rows,
    version_on,
)
from llm_jepa.data.spans import SpanMaker, spans_of_text, written_turns
from llm_jepa.data.steps import StepMaker
from llm_jepa.data.tokenised_rows import check_tokenised
from llm_jepa.data.turns import refuse_unlearned
from llm_jepa.data.unread_columns import without_unread_columns
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.data.views import IGNORED_LABEL, ViewMaker, longest_sequence_tokens
from llm_jepa.settings.objectives import needs_spans, needs_steps, needs_views

TEXT_COLUMN = SFTConfig.dataset_text_field
"""The column of a prepared plain text, however the data call it."""

TURN_KEYS = frozenset({"role", "content"})
"""What every turn has."""
logger = logging.getLogger(__name__)


def prepare_dataset(
    dataset: AnyDataset,
    args: JEPAConfig,
    tokenizer: PreTrainedTokenizerBase,
    tokenise: Callable[[AnyDataset], AnyDataset],
    name: str,
) -> AnyDataset:
    """Prepare rows with `input_ids`, `labels`, `row_index` and the columns of the objectives.

    Those are `source_ids`, `source_start`, `target_ids` and `target_start` for one of views, `source_span` and
    `target_span` for one of spans, `step_ends` for one of steps, and none for one of conversations. With
    `shuffle_pairs` the target's are another row's, and `partner_index` says which.

    Args:
        dataset: Rows of any form that `llm_jepa.data.rows` supports, or pre-tokenised rows.
        args: Column mapping, kind of source view, `max_length` and `long_rows`.
        tokenizer: The model's.
        tokenise: TRL's preparation, which tokenises the conversations and labels their completions.
        name: The data set's name in messages.

    Raises:
        ValueError: A column is missing, a view is empty or cannot be rendered, a row is too long with
            `long_rows: error`, no row is left, or `shuffle_pairs` has no other row to take.
    """
    mapping, dataset = ColumnMapping.from_args(args), _as_python_values(dataset)
    if is_prepared(dataset, args.jepa_objective):
        return dataset if PARTNER_COLUMN in column_names(dataset) else _with_partners(dataset, args)
    dataset = without_unread_columns(dataset, mapping, name)
    if is_tokenised(dataset):
        _check_text_field(args)
        with global_then_local_main_first():
            dataset = check_tokenised(dataset, args, mapping, frozenset(tokenizer.all_special_ids))
        dataset = tokenise(dataset)
    elif not has_pairs(dataset, mapping) and (args.jepa_weight == 0 or not needs_views(args.jepa_objective)):
        for option in mapping.given_options():
            raise ValueError(f"`{option}` has no effect on plain text, which has no turns. Leave it out.")
        with global_then_local_main_first():
            dataset = _check_text(dataset, args)
        dataset = tokenise(dataset)
        with global_then_local_main_first():
            dataset = _add_spans_of_text(dataset, tokenizer, args)
    else:
        _check_text_field(args)
        with global_then_local_main_first():
            dataset = expand_rows(dataset, mapping, args.dataset_num_proc)
            has_template, processes = tokenizer.chat_template is not None, args.dataset_num_proc
            dataset = to_rows(dataset, mapping, has_template, processes, written_on=day_written_by(tokenizer))
        dataset = _tokenise_turns(dataset, tokenise, name)
        with global_then_local_main_first():
            dataset = add_views(dataset, tokenizer, args)
    with global_then_local_main_first():
        if args.excluded_rows is not None and name == "train":
            dataset = exclude_rows(dataset, read_excluded_rows(Path(args.excluded_rows)))
        dataset = drop_long_rows(dataset, args, name)
    dataset = report_findings(dataset, name)
    return _with_partners(dataset, args)


def _as_python_values(dataset: AnyDataset) -> AnyDataset:
    """The rows without the tensors, arrays or tables of `with_format`; TRL refuses those of `with_transform`."""
    if isinstance(dataset, Dataset):
        return dataset if dataset.format["type"] in (None, "custom") else dataset.with_format(None)
    return dataset if dataset._formatting is None else dataset.with_format(None)  # it has no `format`


def _with_partners(dataset: AnyDataset, args: JEPAConfig) -> AnyDataset:
    """The rows that are kept, with the partners of others if the recipe asks for the control."""
    if not args.shuffles_pairs:
        return dataset
    with global_then_local_main_first():
        return with_shuffled_partners(dataset, args.seed, args.dataset_num_proc)


def _check_text_field(args: JEPAConfig) -> None:
    if args.dataset_text_field != TEXT_COLUMN:
        raise ValueError(
            f"`dataset_text_field: {args.dataset_text_field}` has no effect on these data, whose rows are not "
            "plain text. Leave it out."
        )


def _check_text(dataset: AnyDataset, args: JEPAConfig) -> AnyDataset:
    """Check and number rows of plain text, and keep their text alone, as the column `text`.

    TRL would read other columns, such as `labels` and `prompt`. It takes the text from a whole column, not from a
    field or a template.
    """
    columns, name = column_names(dataset), args.dataset_text_field
    if name not in columns:
        raise ValueError(
            f"`dataset_text_field: {name}` is not a column; a field in a column or a template is not allowed here. "
            f"The data set has the columns {columns}. Name the one that holds the text, or, for pairs, set "
            "`source_column` and `target_column`."
        )

    def check(row: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(row[name], str):
            raise ValueError(f"`dataset_text_field: {name}` holds {type(row[name]).__name__}, not a string.")
        if not row[name].strip():
            raise ValueError(f"`dataset_text_field: {name}` is blank: there is nothing to learn. Leave the row out.")
        return {TEXT_COLUMN: row[name]}

    return map_rows(dataset.select_columns([name]), check, args.dataset_num_proc, remove_columns=[name])


def _tokenise_turns(dataset: AnyDataset, tokenise: Callable[[AnyDataset], AnyDataset], name: str) -> AnyDataset:
    """The rows tokenised by TRL, to which turns go without the nulls that Arrow gives them."""
    try:
        with replaces_trl_warning():
            return tokenise(_with_written_turns(dataset))
    except (TemplateError, TypeError) as error:
        raise ValueError(
            f"The chat template cannot render the {name} data: {error}. Change the turns (`system_prompt` adds "
            "one), or set another template with `chat_template_path`."
        ) from error


def _with_written_turns(dataset: AnyDataset) -> AnyDataset:
    """The rows with their turns as JSON, where some have keys that others lack: Arrow would hold those as nulls."""
    if not isinstance(dataset, Dataset) or dataset.features is None:
        return dataset
    further = [name for name in ("prompt", "completion") if _keys_of_turns(dataset.features[name]) - TURN_KEYS]
    if not further:
        return dataset
    features = Features({**dataset.features, **{name: AnyJson() for name in further}})

    def write(row: dict[str, Any], version: str) -> dict[str, Any]:
        return {name: written_turns(row[name]) for name in further}

    return dataset.map(write, features=features, fn_kwargs={"version": PREPARATION_VERSION})


def _keys_of_turns(feature: Any) -> frozenset[str]:
    """The keys of turns of this type; none of a text, and of what is JSON already."""
    turn = getattr(feature, "feature", None)
    return frozenset(turn) if isinstance(turn, dict) else frozenset()


def day_written_by(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Today, if the chat template writes it, as those of Llama 3.2 and gpt-oss; else None."""
    return date.today().isoformat() if "strftime_now" in str(tokenizer.chat_template) else None


def add_views(dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, args: JEPAConfig) -> AnyDataset:
    """Add to rows that TRL has tokenised and maybe shuffled their views and spans, and what is found in them."""
    makers: list[Callable[[dict[str, Any]], dict[str, Any]]] = []
    if needs_views(args.jepa_objective):
        makers.append(ViewMaker(tokenizer, args.jepa_source_view, args.source_turn))
    if needs_spans(args.jepa_objective):
        remedy = "Use another tokenizer or `chat_template_path`, or `jepa_objective: pair`."
        makers.append(SpanMaker(tokenizer, remedy, args.source_turn))
    if needs_steps(args.jepa_objective):
        makers.append(_step_maker(tokenizer, args))
    own_views = () if args.source_view_column is None else OWN_VIEW_COLUMNS
    learns_prompt = not args.completion_only_loss

    def add(row: dict[str, Any]) -> dict[str, Any]:
        if learns_prompt and not isinstance(row["prompt"], str):
            refuse_unlearned(row["prompt"], "Leave out `completion_only_loss: false`, which learns every turn.")
        learned_ids = [label for label in row["labels"] if label != IGNORED_LABEL]
        found = find_in_row(tokenizer, row, row["input_ids"], learned_ids)
        return {name: value for make in makers for name, value in make(row).items()} | found

    removed, version = (*ROW_COLUMNS, *own_views), version_on(day_written_by(tokenizer))
    return map_rows(dataset, add, args.dataset_num_proc, removed, is_numbered=True, version=version)


def _add_spans_of_text(dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase, args: JEPAConfig) -> AnyDataset:
    """Add the spans and steps that the objectives need to plain text, all of which is one span and is split."""
    makes_spans, special_ids = needs_spans(args.jepa_objective), frozenset(tokenizer.all_special_ids)
    maker = _step_maker(tokenizer, args) if needs_steps(args.jepa_objective) else None
    if not makes_spans and maker is None:
        return dataset

    def add(row: dict[str, Any]) -> dict[str, Any]:
        spans = spans_of_text(row["input_ids"], special_ids) if makes_spans else {}
        return spans if maker is None else spans | maker.of_text(row[TEXT_COLUMN], row["input_ids"])

    return map_rows(dataset, add, args.dataset_num_proc, is_numbered=True)


def _step_maker(tokenizer: PreTrainedTokenizerBase, args: JEPAConfig) -> StepMaker:
    remedy = "Use another tokenizer or `chat_template_path`, or another `jepa_objective`."
    return StepMaker(tokenizer, args.step_separator, remedy, args.source_turn)


def exclude_rows(dataset: AnyDataset, excluded: frozenset[int]) -> AnyDataset:
    """Leave out the rows of these indices.

    Raises:
        ValueError: No row is left.
    """
    kept = dataset.filter(lambda row: row["row_index"] not in excluded)
    if isinstance(kept, Dataset) and len(kept) == 0:
        raise all_excluded_error(len(dataset))
    return kept


def all_excluded_error(num_rows: int) -> ValueError:
    """The error of data whose rows are all excluded."""
    return ValueError(f"`excluded_rows` names all {num_rows} rows of the data. Name fewer.")


def read_excluded_rows(path: Path) -> frozenset[int]:
    """The row indices in a JSON file.

    Raises:
        ValueError: The file is missing or holds anything but a list of whole numbers from 0.
    """
    try:
        indices = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"`excluded_rows: {path}` cannot be read: {error}. Name a JSON file.") from error
    if not isinstance(indices, list) or not all(type(index) is int and index >= 0 for index in indices):
        raise ValueError(f"`excluded_rows: {path}` holds {indices!r:.60}; it must be a list of row indices from 0.")
    return frozenset(indices)


def drop_long_rows(dataset: AnyDataset, args: JEPAConfig, name: str) -> AnyDataset:
    """Drop or refuse, by `long_rows`, each row with a sequence of more than `max_length` tokens."""
    limit = args.max_length
    if limit is None:
        return dataset

    num_predictor_tokens, refuses = args.num_predictor_tokens, args.long_rows == "error"

    def fits(row: dict[str, Any]) -> bool:  # closes over little, since `datasets` hashes it for its cache
        tokens = longest_sequence_tokens(row, num_predictor_tokens)
        if tokens > limit and refuses:
            raise long_row_error(row["row_index"], tokens, limit)
        return tokens <= limit

    if not isinstance(dataset, Dataset):
        return dataset.filter(_LoggingFilter(fits, args, name))
    kept = dataset.filter(fits, num_proc=args.dataset_num_proc)
    if len(kept) == 0:
        raise all_long_error(len(dataset), name, limit)
    if len(kept) < len(dataset):
        logger.warning(
            "Dropped %d of %d rows of the %s data: longer than max_length %d.",
            len(dataset) - len(kept), len(dataset), name, limit,
        )  # fmt: skip
    return kept


def all_long_error(num_rows: int, name: str, limit: int) -> ValueError:
    """The error of data whose rows are all too long."""
    return ValueError(f"All {num_rows} rows of the {name} data are longer than `max_length: {limit}`. Raise it.")


def long_row_error(row_index: int, tokens: int, limit: int) -> RowError:
    """The error of a row that is too long with `long_rows: error`."""
    advice = "Raise it or set `long_rows: drop`."
    return RowError(row_index, f"the row has {tokens} tokens; `max_length` is {limit}. {advice}")


class _LoggingFilter:
    """A filter that logs the first row dropped from a stream, whose dropped rows cannot be counted in advance."""

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
                "are too long are dropped silently.",
                row["row_index"], self.name, longest_sequence_tokens(row, self.num_predictor_tokens), self.limit,
            )  # fmt: skip
        return is_kept
