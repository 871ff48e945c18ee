"""Shows a recipe's rows as training would see them: labels, views, readouts, mask and token counts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llm_jepa.data.partners import PARTNER_COLUMN
from llm_jepa.data.rows import STEP_COLUMN
from llm_jepa.data.views import IGNORED_LABEL, TokenSequence, with_predictor_tokens
from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.layouts import Batch, LaidOut, PackedLayout
from llm_jepa.layouts.masks import tree_mask
from llm_jepa.objectives.collator import JEPACollator
from llm_jepa.recipe import Recipe
from llm_jepa.settings.objectives import needs_views

PREDICTOR_PIECE = "[PRED]"


@dataclass(frozen=True)
class InspectedView:
    """A view with its predictor tokens, read at its last token; a view's content, for `tube` and `patch`; or, for
    `step`, the tokens at which the target's steps end. A view that is coded is read by no forward of the model.

    `partner` is the row that it belongs to, if `shuffle_pairs` has taken it from another.
    """

    name: str
    role: str
    pieces: list[str]
    partner: int | None = None


@dataclass(frozen=True)
class InspectedRow:
    """One row as the model sees it.

    Attributes:
        index: Index of the row in the data set.
        pieces: Text of each token of the conversation.
        learnt: Whether each token is a label.
        views: Source and target.
        stored: Text of each stored token: of all sequences if they share a row, else of the conversation.
        mask_LL: Which stored token may attend to which.
        stored_tokens: Tokens of this row in the forward with gradient.
        detached_tokens: Tokens of this row in the forward without gradient.
    """

    index: int
    pieces: list[str]
    learnt: list[bool]
    views: list[InspectedView]
    stored: list[str]
    mask_LL: Tensor
    stored_tokens: int
    detached_tokens: int


@dataclass(frozen=True)
class Inspection:
    """A recipe's data before training.

    Attributes:
        layout: The layout's name and the reason for it.
        dropout: Share of the steps that compute no views.
        num_rows: Rows prepared, each with one pair of views.
        is_partial: Whether a stream has more rows.
        dropped: Index and tokens of each row longer than `max_length`.
        counts: Sequence -> its length in tokens in each kept row.
    """

    layout: str
    dropout: float
    num_rows: int
    is_partial: bool
    max_length: int | None
    dropped: list[tuple[int, int]]
    counts: dict[str, list[int]]
    rows: list[InspectedRow]


def inspect_recipe(recipe: Recipe, num_rows: int) -> Inspection:
    """Prepare a recipe's training data, and show the first `num_rows` of the kept rows.

    Raises:
        ValueError: The trainer would refuse these data or this model.
    """
    args = recipe.training
    prepared = prepare_recipe(recipe)
    tokenizer, kept, collator = prepared.tokenizer, prepared.rows, prepared.collator
    if isinstance(collator.layout, PackedLayout):
        # Show all sequences in one row; training may use two.
        collator = replace(collator, layout=PackedLayout(tokenizer.pad_token_id))
    return Inspection(
        layout=prepared.layout_reason,
        dropout=args.jepa_dropout if args.jepa_weight > 0 else 0.0,
        num_rows=len(kept) + len(prepared.dropped),
        is_partial=prepared.is_partial,
        max_length=args.max_length,
        dropped=prepared.dropped,
        counts=_counts(kept, collator),
        rows=[_inspect_row(row, collator, tokenizer) for row in kept.select(range(min(num_rows, len(kept))))],
    )


def _inspect_row(row: dict, collator: JEPACollator, tokenizer: PreTrainedTokenizerBase) -> InspectedRow:
    views = list(_views(row, collator, tokenizer))
    pieces = _pieces(row["input_ids"], tokenizer)
    batch, detached_tokens = _laid_out(row, collator)
    if batch is not None and len(batch.input_ids_RL) == 1:
        stored = _stored_pieces(batch, tokenizer)
        mask_LL = tree_mask(batch.subtree_ends_RL)[0, 0]
    else:
        stored, mask_LL = pieces, torch.ones(len(pieces), len(pieces), dtype=torch.bool).tril()
    return InspectedRow(
        index=row["row_index"],
        pieces=pieces,
        learnt=[label != IGNORED_LABEL for label in row["labels"]],
        views=views,
        stored=stored,
        mask_LL=mask_LL,
        stored_tokens=len(pieces) if batch is None else batch.num_tokens,
        detached_tokens=detached_tokens,
    )


def _views(row: dict, collator: JEPACollator, tokenizer: PreTrainedTokenizerBase) -> Iterator[InspectedView]:
    config = collator.config
    if not (needs_views(config.jepa_objective) and "source_ids" in row):
        for name in ("source", "target") if "source_span" in row else ():
            start, end = row[f"{name}_span"]
            yield InspectedView(name, "content", _pieces(row["input_ids"][start:end], tokenizer))
        if STEP_COLUMN in row:
            yield InspectedView(
                "steps", "ends", _pieces([row["input_ids"][end] for end in row[STEP_COLUMN]], tokenizer)
            )
        return
    predicting = config.jepa_direction.partition("_to_")[0]
    laid_out = collator([row]).get("laid_out")
    is_coded = laid_out is not None and laid_out.target_ids_NT is not None
    for name in ("source", "target"):
        is_predicting = name == predicting
        sequence = with_predictor_tokens(
            row[f"{name}_ids"],
            row[f"{name}_start"],
            config.num_predictor_tokens if is_predicting else 0,
            config.predictor_position,
            tokenizer.pad_token_id,
        )
        role = "predicts" if is_predicting else "is coded" if is_coded else "is predicted"
        partner = row.get(PARTNER_COLUMN) if name == "target" else None
        yield InspectedView(name, role, _sequence_pieces(sequence, tokenizer), partner)


def _laid_out(row: dict, collator: JEPACollator) -> tuple[Batch | None, int]:
    """The batch of one row, and its number of tokens without gradient."""
    laid_out: LaidOut | None = collator([row]).get("laid_out")
    return (None, 0) if laid_out is None else (laid_out.batch, laid_out.detached_tokens)


def _counts(rows: Dataset, collator: JEPACollator) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {
        name: [] for name in ("conversation", "labels", "source", "target", "forward", "no-grad forward")
    }
    for row in rows:
        batch, detached_tokens = _laid_out(row, collator)
        counts["conversation"].append(len(row["input_ids"]))
        counts["labels"].append(sum(label != IGNORED_LABEL for label in row["labels"]))
        for name in ("source", "target"):
            counts[name].append(_view_tokens(row, name))
        counts["forward"].append(len(row["input_ids"]) if batch is None else batch.num_tokens)
        counts["no-grad forward"].append(detached_tokens)
    return counts


def _view_tokens(row: dict, name: str) -> int:
    """Tokens of a view, or of its span. Rows of objectives that need neither have none."""
    if f"{name}_ids" in row:
        return len(row[f"{name}_ids"])
    start, end = row.get(f"{name}_span", (0, 0))
    return end - start


def _pieces(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [str(tokenizer.decode([token_id])) for token_id in token_ids]


def _sequence_pieces(sequence: TokenSequence, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    pieces = _pieces(list(sequence.token_ids), tokenizer)
    return [PREDICTOR_PIECE if slot else piece for piece, slot in zip(pieces, sequence.slots, strict=True)]


def _stored_pieces(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    sequence = TokenSequence(tuple(batch.input_ids_RL[0].tolist()), tuple(batch.slots_RL[0].tolist()))
    return _sequence_pieces(sequence, tokenizer)
