"""Measures the embeddings of both views of held-out rows, before and after training.

A view is encoded as in training, but without predictor tokens, which a shipped model does not have. Its embedding is
the last layer's hidden state at its last content token.

Legend: N rows, D the model's width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.prompts import conversation_ids
from llm_jepa.data.rows import is_tokenised, to_rows
from llm_jepa.data.views import ViewMaker
from llm_jepa.evaluation.held_out_rows import held_out_dataset, held_out_errors_located
from llm_jepa.inference.embedding import embed
from llm_jepa.layouts.base import plain_sequence
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.objectives.diagnostics import (
    effective_rank,
    linear_map_error,
    paired_cosine,
    retrieval_at_1,
    singular_values_of_difference,
    unpaired_cosine,
)
from llm_jepa.objectives.pair import token_key
from llm_jepa.recipe import Recipe

SHOWN_SINGULAR_VALUES = 20
Progress = Callable[[Checkpoint, int], None]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of both views of the same rows by one checkpoint, in float32 on the CPU.

    `target_key_N` is equal for rows with the same target.
    """

    checkpoint: Checkpoint
    source_ND: Tensor
    target_ND: Tensor
    target_key_N: Tensor


def held_out_view_ids(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, max_rows: int | None
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the sources and targets of the recipe's held-out rows, those that `llm-jepa eval` scores.

    Raises:
        ValueError: `max_rows` is below 4, or the rows cannot be loaded or have no views.
    """
    if max_rows is not None and max_rows < 4:
        raise ValueError(f"`max_rows` is {max_rows}; the figures need at least 4 rows.")
    dataset, row_indices = held_out_dataset(recipe, max_rows)
    if is_tokenised(dataset):
        return _columns(dataset)
    args = recipe.training
    mapping = ColumnMapping.from_args(args)
    make_views = ViewMaker(tokenizer, args.jepa_source_view, args.source_turn)
    sources, targets = [], []
    with held_out_errors_located(recipe, dataset):
        for row in to_rows(dataset, mapping, tokenizer.chat_template is not None, row_indices=row_indices):
            views = make_views({**row, "input_ids": conversation_ids(tokenizer, row)})
            sources.append(views["source_ids"])
            targets.append(views["target_ids"])
    return sources, targets


def embed_checkpoints(
    recipe: Recipe,
    checkpoints: Sequence[Checkpoint],
    sequences: tuple[list[list[int]], list[list[int]]],
    batch_size: int,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
) -> Iterator[Embeddings]:
    """Yield the embeddings of each checkpoint."""
    target_key_N = torch.tensor([token_key(ids) for ids in sequences[1]])
    for checkpoint, _, model in load_checkpoints(recipe, checkpoints, len(tokenizer)):
        model.eval()
        inner = without_adapter(model)
        views = []
        for ids in sequences:
            found = []
            for start in range(0, len(ids), batch_size):
                batch = [plain_sequence(one) for one in ids[start : start + batch_size]]
                found.append(embed(inner, batch, tokenizer.pad_token_id))
                progress(checkpoint, len(found[-1]))
            views.append(torch.cat(found))
        yield Embeddings(checkpoint, views[0], views[1], target_key_N)


def describe(source_ND: Tensor, target_ND: Tensor, target_key_N: Tensor) -> dict[str, Any]:
    """Figures of one checkpoint's embeddings; see `llm_jepa.objectives.diagnostics`.

    Raises:
        ValueError: All rows have the same target.
    """
    num_others_N = (target_key_N[:, None] != target_key_N).sum(dim=1)
    singular_values = singular_values_of_difference(source_ND, target_ND)
    return {
        "paired_cosine": paired_cosine(source_ND, target_ND).item(),
        "unpaired_cosine": unpaired_cosine(source_ND, target_ND, target_key_N).item(),
        "retrieval_at_1": retrieval_at_1(source_ND, target_ND, target_key_N).item(),
        "retrieval_at_chance": (1 / (1 + num_others_N)).mean().item(),
        "effective_rank_source": effective_rank(source_ND).item(),
        "effective_rank_target": effective_rank(target_ND).item(),
        "linear_map_error": linear_map_error(source_ND, target_ND).item(),
        "singular_values_of_difference": singular_values[:SHOWN_SINGULAR_VALUES].tolist(),
    }


def _columns(dataset: Any) -> tuple[list[list[int]], list[list[int]]]:
    rows = list(dataset)
    if not {"source_ids", "target_ids"} <= rows[0].keys():
        raise ValueError(
            "The rows are pre-tokenised and lack the columns `source_ids` and `target_ids`. Add them, or give texts."
        )
    return [row["source_ids"] for row in rows], [row["target_ids"] for row in rows]
