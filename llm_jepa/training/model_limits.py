"""What a model cannot learn: rows beyond its positions or its embeddings."""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PretrainedConfig

from llm_jepa.data.rows import AnyDataset, RowError
from llm_jepa.data.views import IGNORED_LABEL, longest_sequence_tokens

logger = logging.getLogger(__name__)

TOKEN_COLUMNS = ("input_ids", "source_ids", "target_ids", "labels")
ROTARY_SETTINGS = ("rope_parameters", "rope_theta", "rope_scaling")


def check_rows_of_model(
    dataset: AnyDataset, config: PretrainedConfig, num_predictor_tokens: int, name: str
) -> AnyDataset:
    """Compare prepared rows with the model's positions and embeddings, and return them; a stream compares as it goes.

    Args:
        dataset: Rows with `input_ids` and, for pairs, the columns of the views.
        config: The model's, with the number of tokens that have an embedding.
        num_predictor_tokens: The positions that the predicting view has besides its tokens.
        name: The data set's name in messages.

    Raises:
        RowError: A token id is negative or has no embedding, or a row is longer than the model's table of positions.
    """
    num_embeddings = config.get_text_config().vocab_size
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    limit = positions if has_position_table(config) else None

    def check(row: dict[str, Any]) -> dict[str, Any]:
        _check_tokens(row, num_embeddings, name)
        tokens = longest_sequence_tokens(row, num_predictor_tokens)
        if limit is not None and tokens > limit:
            raise _row_error(
                row,
                name,
                f"{tokens} tokens, and the model has {limit} positions. Set `max_length: {limit}`, which drops "
                "longer rows.",
            )
        return {}

    if not isinstance(dataset, Dataset):
        return dataset.map(check)
    columns = [column for column in TOKEN_COLUMNS if column in dataset.column_names]
    least, most, longest = _bounds(dataset, columns)
    longest += num_predictor_tokens if "source_ids" in columns else 0
    if least < 0 or most >= num_embeddings or (limit is not None and longest > limit):
        for row in dataset:
            check(row)
    if limit is None and positions is not None and longest > positions:
        logger.warning(
            "The longest row of the %s data has %d tokens, and the model was made for %d positions. Set `max_length: "
            "%d` to drop longer rows.", name, longest, positions, positions,
        )  # fmt: skip
    return dataset


def has_position_table(config: PretrainedConfig) -> bool:
    """Whether a model looks its positions up in a table, and fails beyond its end; others compute them."""
    return all(getattr(config.get_text_config(), name, None) is None for name in ROTARY_SETTINGS)


def _check_tokens(row: dict[str, Any], num_embeddings: int, name: str) -> None:
    for column in TOKEN_COLUMNS:
        ignored = IGNORED_LABEL if column == "labels" else None
        tokens = (token for token in row.get(column) or () if token != ignored)
        wrong = next((token for token in tokens if not 0 <= token < num_embeddings), None)
        if wrong is not None:
            raise _row_error(
                row,
                name,
                f"the token id {wrong} in `{column}`, and the model has embeddings for 0 to {num_embeddings - 1}. Use "
                "the model's own tokenizer; or give the model rows for tokens that were added "
                "(`resize_token_embeddings`) and save it.",
            )


def _row_error(row: dict[str, Any], name: str, what: str) -> RowError:
    error = RowError(row["row_index"], f"the row has {what}")
    error.data_name = name
    return error


def _bounds(dataset: Dataset, columns: list[str]) -> tuple[int, int, int]:
    """The smallest token id (but for labels) and the largest of some columns, and the length of the longest list."""
    least, most, longest = 0, 0, 0
    for batch in dataset.select_columns(columns).with_format("arrow").iter(batch_size=10_000):
        for column in columns:
            lists = pa.chunked_array(batch[column]).combine_chunks()
            tokens = pc.min_max(pc.list_flatten(lists)).as_py()
            least = least if column == "labels" else min(least, tokens["min"] or 0)
            most = max(most, tokens["max"] or 0)
            longest = max(longest, pc.max(pc.list_value_length(lists)).as_py() or 0)
    return least, most, longest
