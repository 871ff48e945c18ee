"""Loads the held-out rows of a recipe: the whole split, or a sample of it that is the same in every evaluation."""

import hashlib
import heapq
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.findings import find_in_row, report_rows
from llm_jepa.data.loading import load_split
from llm_jepa.data.prompts import Prompt, conversation_ids
from llm_jepa.data.row_keys import pair_key
from llm_jepa.data.row_lines import row_errors_located
from llm_jepa.data.rows import ORIGINAL_ROW_COLUMN, AnyDataset, RowError, is_tokenised, to_rows
from llm_jepa.data.spans import template_kwargs_of
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.recipe import Recipe

SAMPLE_SEED = 0
"""Another seed draws other rows, and scores before and after are not of the same rows."""


@dataclass(frozen=True)
class HeldOutRow:
    """One row to evaluate.

    Attributes:
        row_index: Number of the row in the split, after its rows were expanded.
        cluster: Number of the row of the data set that it comes from. `target_turn: all` and `view_columns` make
            several rows of one, whose scores are not independent.
        template_kwargs: Further arguments of the chat template.
        database: The row's SQLite file, for `task: sql`.
        choices: The texts to choose from, for `task: choice`.
    """

    row_index: int
    cluster: int
    prompt: Prompt
    template_kwargs: dict[str, Any]
    source: str
    gold: str
    database: Path | None = None
    choices: tuple[str, ...] = ()


def load_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None) -> list[HeldOutRow]:
    """The rows of the recipe's `dataset_test_split`, or `max_rows` of them as `held_out_dataset` draws them.

    Logs where a prompt alone is tokenised otherwise than in training, and golds that no template writes.

    Raises:
        ValueError: `max_rows` is below 1, or the rows cannot be loaded or have no texts to score.
    """
    dataset, row_indices = held_out_dataset(recipe, max_rows)
    if is_tokenised(dataset):
        raise ValueError(
            "Pre-tokenised rows cannot be evaluated: their gold answers are not texts. Name a data set of texts."
        )
    mapping = ColumnMapping.from_args(recipe.training).of_conversation()
    has_chat_template = tokenizer.chat_template is not None
    with held_out_errors_located(recipe, dataset):
        rows = list(to_rows(dataset, mapping, has_chat_template, row_indices=row_indices))
        found = (find_in_row(tokenizer, row, conversation_ids(tokenizer, row)) | row for row in rows)
        report_rows(found, f"held-out ({recipe.script.dataset_test_split})", len(rows))
        return [
            HeldOutRow(
                row_index=row["row_index"],
                cluster=original.get(ORIGINAL_ROW_COLUMN, row["row_index"]),
                prompt=row["prompt"],
                template_kwargs=template_kwargs_of(row),
                source=row["source"],
                gold=row["target"],
                database=_database(recipe.training.database_path, original),
                choices=_choices(recipe.training.choices_column, original, row),
            )
            for row, original in zip(rows, dataset, strict=True)
        ]


def prompts_digest(tokenizer: PreTrainedTokenizerBase, rows: Sequence[HeldOutRow]) -> str:
    """SHA-256 of what the rows' prompts are made from: texts or messages, arguments of the chat template, template.

    Prompts that are rendered would not do: a template may write the day's date.
    """
    prompts = [(row.prompt, row.template_kwargs) for row in rows]
    return hashlib.sha256(json.dumps([tokenizer.chat_template, prompts], default=str).encode()).hexdigest()


def all_targets(recipe: Recipe, rows: Sequence[HeldOutRow]) -> list[str]:
    """The targets of the whole `dataset_test_split`; of a stream, whose length is unknown, those of the rows.

    Args:
        rows: The rows of the split that are evaluated.

    Raises:
        ValueError: A row has no target.
    """
    dataset, _ = held_out_dataset(recipe)
    if not isinstance(dataset, Dataset):
        return [row.gold for row in rows]
    mapping = ColumnMapping.from_args(recipe.training).of_conversation()
    with held_out_errors_located(recipe, dataset):
        return [row["target"] for row in to_rows(dataset, mapping, has_chat_template=True)]


def check_not_tested(rows: Sequence[HeldOutRow], tested: Sequence[HeldOutRow], split: str) -> None:
    """Check that no row on which something is chosen has the source and target of a tested row.

    Args:
        rows, split: Those that `--dev_split` names.

    Raises:
        ValueError: One has.
    """
    keys = {pair_key(row.prompt, row.source, row.gold) for row in tested}
    shared = [row.row_index for row in rows if pair_key(row.prompt, row.source, row.gold) in keys]
    if shared:
        raise ValueError(
            f"{len(shared)} of the {len(rows)} rows of `--dev_split {split}` are tested too (the first is row "
            f"{shared[0]}). Name rows that are not tested, such as `train[-200:]`."
        )


def held_out_errors_located(recipe: Recipe, dataset: AnyDataset) -> AbstractContextManager[None]:
    """Name the file and the line of a held-out row that cannot be used, as `row_errors_located` does.

    Args:
        dataset: The rows of `held_out_dataset`, or those before they were expanded.

    Raises:
        ValueError: In place of a `RowError`.
    """
    mapping = ColumnMapping.from_args(recipe.training)
    return row_errors_located(recipe.script, {"": (recipe.script.dataset_test_split, dataset)}, mapping)


def held_out_dataset(recipe: Recipe, max_rows: int | None = None) -> tuple[AnyDataset, list[int] | None]:
    """The recipe's `dataset_test_split` with its rows expanded, and the numbers of the rows if they are a sample.

    `max_rows` draws a sample by a fixed seed (`sample_indices`), in the order of the data set. Of a stream, whose
    length is unknown, it takes the first rows.

    Raises:
        ValueError: `max_rows` is below 1, or the rows cannot be loaded.
    """
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` is {max_rows}; it must be at least 1.")
    dataset = load_split(recipe.script, recipe.script.dataset_test_split)
    if not is_tokenised(dataset):
        with held_out_errors_located(recipe, dataset):
            dataset = expand_rows(dataset, ColumnMapping.from_args(recipe.training), keeps_columns=True)
    if max_rows is None:
        return dataset, None
    if not isinstance(dataset, Dataset):
        return dataset.take(max_rows), None
    indices = sample_indices(len(dataset), max_rows)
    return dataset.select(indices), indices


def sample_indices(num_rows: int, max_rows: int) -> list[int]:
    """The numbers of `max_rows` rows out of `num_rows`, or of all if there are no more, in ascending order.

    They are the rows of the smallest SHA-256 of "seed:number". So they depend on no library's generator, and a smaller
    sample is a part of a larger one.
    """

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{SAMPLE_SEED}:{index}".encode()).digest()

    return sorted(heapq.nsmallest(max_rows, range(num_rows), key=rank))


def _database(template: str | None, row: dict[str, Any]) -> Path | None:
    if template is None:
        return None
    try:
        return Path(template.format_map(row)).expanduser()
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"`database_path: {template}` cannot be filled from the columns {list(row)}: {error!r}. Write the "
            "names of columns in braces."
        ) from error


def _choices(column: str | None, original: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    if column is None:
        return ()
    choices = original.get(column)
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise RowError(
            row["row_index"],
            f"`choices_column: {column}` holds {choices!r:.80}; the columns are {list(original)}. Name one with a "
            "list of texts, none of them empty.",
        )
    if row["target"] not in choices:
        raise RowError(row["row_index"], f"the target {row['target']!r} is not one of the choices {choices}.")
    return tuple(choices)
