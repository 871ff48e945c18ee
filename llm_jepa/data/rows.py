"""A data set and its column mapping -> rows: prompt, completion, and the text of the two views."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset

from llm_jepa.data.cache_key import PREPARATION_VERSION
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.read_names import with_read_names
from llm_jepa.data.spans import source_turn_index
from llm_jepa.data.tools import checked_tools
from llm_jepa.data.turns import (
    SYSTEM_COLUMN,
    Messages,
    last_content,
    refuse_unlearned,
    target_turn_indices,
    to_messages,
    turn_column,
    with_system_column,
    with_system_prompt,
)
from llm_jepa.settings.objectives import needs_spans, needs_steps, needs_views
from llm_jepa.settings.view_fields import ViewField, find_fields

AnyDataset: TypeAlias = Dataset | IterableDataset

ROW_COLUMNS = ("prompt", "completion", "source", "target")
OWN_VIEW_COLUMNS = ("source_view", "target_view")
"""The views of a row if they are no part of its conversation."""
TOKENISED_COLUMNS = ("input_ids", "labels")
VIEW_TOKEN_COLUMNS = ("source_ids", "target_ids")
SPAN_COLUMNS = ("source_span", "target_span")
STEP_COLUMN = "step_ends"
ORIGINAL_ROW_COLUMN = "view_pair_row"
"""The number of the row that a row was expanded from."""

CHAT_TEMPLATE_COLUMNS = ("tools", "chat_template_kwargs")
"""Columns that TRL passes to the chat template, row by row."""


class RowError(ValueError):
    """A row that cannot be used. Whoever knows of which data it is sets `data_name`."""

    data_name: str | None = None

    def __init__(self, row_index: int, reason: str):
        super().__init__(row_index, reason)
        self.row_index, self.reason = row_index, reason

    def __str__(self) -> str:
        return f"Row {self.row_index}: {self.reason}"


def to_rows(
    dataset: AnyDataset,
    mapping: ColumnMapping,
    has_chat_template: bool,
    num_proc: int | None = None,
    row_indices: Sequence[int] | None = None,
    written_on: str | None = None,
) -> AnyDataset:
    """Map any supported data set to the columns `prompt`, `completion`, `source`, `target`, `row_index`.

    Views that are no part of the conversation are the columns `source_view` and `target_view`.

    Args:
        dataset: Two named columns, or `prompt`/`completion`, or turns. Rows of several pairs must have been expanded
            before (`llm_jepa.data.view_pairs`).
        mapping: Names of the columns, the system prompt, and extra arguments of the chat template.
        has_chat_template: Whether conversations are chat messages (True) or plain strings (False).
        num_proc: Number of processes; a stream ignores it.
        row_indices: The rows' numbers, where the data set is a selection; None for their positions.
        written_on: The day, where the chat template writes it: rows of another day are other rows in the cache.

    Raises:
        ValueError: A column is missing, a view is empty, a conversation has no last assistant turn, or an option of
            the chat template is set for plain strings.
    """
    columns = column_names(dataset)
    to_row, read = row_maker(columns, mapping, has_chat_template)
    dataset = dataset.select_columns([name for name in columns if name in (*read, *CHAT_TEMPLATE_COLUMNS)])
    if isinstance(dataset, Dataset):
        dataset, to_row, read = with_read_names(dataset, to_row, read)
    return map_rows(
        dataset, to_row, num_proc, remove_columns=read, row_indices=row_indices, version=version_on(written_on)
    )


def version_on(day: str | None) -> str:
    """The version of prepared rows, on a day if the chat template writes it."""
    return PREPARATION_VERSION if day is None else f"{PREPARATION_VERSION} {day}"


def row_maker(
    columns: list[str], mapping: ColumnMapping, has_chat_template: bool
) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], list[str]]:
    """The function that makes a row of an example, and the columns that it reads. Both raise as `to_rows` does."""
    convert, read = _choose_converter(columns, mapping)
    own_views = dict(zip(OWN_VIEW_COLUMNS, find_fields(mapping.own_views or (), columns), strict=False))
    read = list(dict.fromkeys([*read, *(name for field in own_views.values() for name in field.columns)]))

    def to_row(example: dict[str, Any]) -> dict[str, Any]:
        row = convert(example, mapping, has_chat_template)
        row |= {view: field.text(example) for view, field in own_views.items()}
        for view in ("source", "target", *own_views):
            _check_view(row[view], view.replace("_", " "))
        if "tools" in example:
            row["tools"] = checked_tools(example["tools"], is_named=mapping.pair is not None)
        return _with_template_kwargs(row, example, mapping)

    return to_row, read


def map_rows(
    dataset: AnyDataset,
    convert: Callable[[dict[str, Any]], dict[str, Any]],
    num_proc: int | None,
    remove_columns: Sequence[str] = (),
    is_numbered: bool = False,
    row_indices: Sequence[int] | None = None,
    version: str = PREPARATION_VERSION,
) -> AnyDataset:
    """Add the columns that `convert` returns to every row, and `row_index` unless `is_numbered` says it is there.

    `row_index` is the row's position, or its number in `row_indices`.

    Raises:
        RowError: `convert` raised a ValueError.
    """

    def convert_numbered(row: dict[str, Any], index: int, version: str) -> dict[str, Any]:
        row_index = row["row_index"] if is_numbered else index if row_indices is None else row_indices[index]
        try:
            return {**convert(row), "row_index": row_index}
        except ValueError as error:
            raise RowError(row_index, str(error)) from error

    return dataset.map(
        convert_numbered,
        with_indices=True,
        remove_columns=list(remove_columns),
        fn_kwargs={"version": version},  # part of the cache's key
        **({"num_proc": num_proc} if isinstance(dataset, Dataset) else {}),  # a stream does not accept it
    )


def check_columns(dataset: AnyDataset, mapping: ColumnMapping) -> None:
    """Check that a data set which is not tokenised has the columns that are named.

    Raises:
        ValueError: It has not.
    """
    named = (*(mapping.view_columns or mapping.pair or ()), *(mapping.own_views or ()))
    if not is_tokenised(dataset):
        find_fields(named, column_names(dataset))


def column_names(dataset: AnyDataset) -> list[str]:
    """The names of the columns; of a stream that does not know them, those of its first row.

    Raises:
        ValueError: A stream that does not know them has no row.
    """
    if dataset.column_names is not None:
        return list(dataset.column_names)
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(
            "A stream of the data ends without a row. Give rows, or raise `max_length`, if all are longer."
        )
    return list(first)


def is_tokenised(dataset: AnyDataset) -> bool:
    """Whether the rows hold token ids."""
    return "input_ids" in column_names(dataset)


def is_prepared(dataset: AnyDataset, objectives: str | Sequence[str]) -> bool:
    """Whether the rows have all columns of the objectives: TRL's `evaluate` passes prepared data a second time."""
    views = (*VIEW_TOKEN_COLUMNS, "source_start", "target_start") if needs_views(objectives) else ()
    spans = SPAN_COLUMNS if needs_spans(objectives) else ()
    steps = (STEP_COLUMN,) if needs_steps(objectives) else ()
    return {*TOKENISED_COLUMNS, *views, *spans, *steps, "row_index"} <= {*column_names(dataset)}


def has_pairs(dataset: AnyDataset, mapping: ColumnMapping) -> bool:
    """Whether the columns of a data set hold pairs of a source and a target."""
    columns = set(column_names(dataset))
    return mapping.pair is not None or turn_column(columns) is not None or {"prompt", "completion"} <= columns


def _choose_converter(columns: list[str], mapping: ColumnMapping) -> tuple[Callable[..., dict[str, Any]], list[str]]:
    """The function that converts an example, and the columns that it reads."""
    if mapping.pair is not None:
        source, target = find_fields(mapping.pair, columns)
        return _RowFromFields(source, target), list(dict.fromkeys((*source.columns, *target.columns)))
    if {"prompt", "completion"} <= set(columns):
        if mapping.target_turn != "last":
            raise ValueError(
                f"`target_turn: {mapping.target_turn}` has no effect on `prompt` and `completion`: the "
                "completion is what is learned. Leave it out, or give turns."
            )
        return _row_from_prompt_completion, ["prompt", "completion"]
    column = turn_column(columns)
    if column is not None:
        return partial(_row_from_turns, column), [column, *({SYSTEM_COLUMN} & {*columns})]
    raise ValueError(
        f"The data set has the columns {columns}. Name two of them as `source_column` and `target_column`, or give "
        f"`messages` or `conversations`, `prompt` and `completion`, or pre-tokenised "
        f"{[*TOKENISED_COLUMNS, *VIEW_TOKEN_COLUMNS]}."
    )


@dataclass(frozen=True)
class _RowFromFields:
    source: ViewField
    target: ViewField

    def __call__(self, example: dict[str, Any], mapping: ColumnMapping, has_chat_template: bool) -> dict[str, Any]:
        source, target = self.source.text(example), self.target.text(example)
        prompt: Messages | str
        completion: Messages | str
        if has_chat_template:
            prompt = with_system_prompt([{"role": "user", "content": source}], mapping.system_prompt)
            completion = [{"role": "assistant", "content": target}]
        else:
            prompt, completion = _with_system_text(f"{source}\n", mapping.system_prompt), target
        return {"prompt": prompt, "completion": completion, "source": source, "target": target}


def _row_from_prompt_completion(
    example: dict[str, Any], mapping: ColumnMapping, has_chat_template: bool
) -> dict[str, Any]:
    prompt, completion = example["prompt"], example["completion"]
    if type(prompt) is not type(completion) or not isinstance(prompt, str | list):
        raise ValueError(
            f"`prompt` is {type(prompt).__name__} and `completion` {type(completion).__name__}; both must be strings, "
            "or both lists of chat messages."
        )
    if isinstance(prompt, str):
        if mapping.source_turn != "last":
            raise ValueError(f"`source_turn: {mapping.source_turn}` has no effect on plain strings without turns.")
        return {
            "prompt": _with_system_text(prompt, mapping.system_prompt),
            "completion": completion,
            "source": prompt,
            "target": completion,
        }
    _require_chat_template(has_chat_template)
    prompt, completion = to_messages(prompt, "prompt"), to_messages(completion, "completion")
    refuse_unlearned(
        completion, "Set `target_turn: all` to learn the other answers of `messages`, or leave the row out."
    )
    return {
        "prompt": with_system_prompt(prompt, mapping.system_prompt),
        "completion": completion,
        "source": prompt[source_turn_index(prompt, mapping.source_turn)]["content"],
        "target": last_content(completion, "assistant"),
    }


def _row_from_turns(
    column: str, example: dict[str, Any], mapping: ColumnMapping, has_chat_template: bool
) -> dict[str, Any]:
    messages = with_system_column(to_messages(example[column], column), example.get(SYSTEM_COLUMN))
    if mapping.target_turn == "first":
        messages = messages[: target_turn_indices(messages)[0] + 1]
    if not messages or messages[-1]["role"] != "assistant":
        last = messages[-1]["role"] if messages else "nothing"
        has_answer = any(message["role"] == "assistant" for message in messages)
        advice = " Set `target_turn: first` or `all` to learn the assistant turns before it." if has_answer else ""
        raise ValueError(f"`{column}` must end with an assistant turn, which is learned; it ends with {last}.{advice}")
    split = {"prompt": messages[:-1], "completion": messages[-1:]}
    return _row_from_prompt_completion(split, mapping, has_chat_template)


def _require_chat_template(has_chat_template: bool) -> None:
    if not has_chat_template:
        raise ValueError(
            "the row is a chat, but the tokenizer has no chat template. Set `chat_template_path`, or give plain "
            "strings."
        )


def _with_system_text(prompt: str, system_prompt: str | None) -> str:
    return prompt if system_prompt is None else f"{system_prompt}\n{prompt}"


def _with_template_kwargs(row: dict[str, Any], example: dict[str, Any], mapping: ColumnMapping) -> dict[str, Any]:
    given = mapping.chat_template_kwargs
    if given is not None and isinstance(row["prompt"], str):
        raise ValueError(
            "`chat_template_kwargs` has no effect on plain strings, since no chat template renders them. Leave it out."
        )
    if given is None and "chat_template_kwargs" not in example:
        return row
    of_row = example.get("chat_template_kwargs") or {}
    if not isinstance(of_row, dict):
        raise ValueError(
            f"`chat_template_kwargs` is {type(of_row).__name__}; it must be a mapping of names to values."
        )
    own = {name: value for name, value in of_row.items() if value is not None}  # null if another row alone has it
    return {**row, "chat_template_kwargs": {**(given or {}), **own}}


def _check_view(text: Any, view: str) -> None:
    if not isinstance(text, str):
        advice = " Join the texts of a content in parts into one string." if isinstance(text, list) else ""
        if isinstance(text, int | float):
            advice = f" Write it as a string in the data, such as {str(text)!r}."
        raise ValueError(f"the {view} is {type(text).__name__}, not a string.{advice}")
    if not text.strip():
        raise ValueError(f"the {view} is empty.")
