"""What training would see of a recipe: rows, labels, views, readouts, mask and token counts, before any training.

The rows go through the trainer's own preparation, on a stand-in model of no size: neither the model's weights nor a
device are touched. Its architecture decides the layout, which needs its config alone.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from llm_jepa.collator import JEPACollator
from llm_jepa.layout_choice import choose_layout
from llm_jepa.layouts import Batch, PackedLayout, RowsLayout
from llm_jepa.layouts.base import IGNORED_LABEL
from llm_jepa.loading import load_split
from llm_jepa.masks import tree_mask
from llm_jepa.modeling import load_tokenizer, resolve_model
from llm_jepa.recipe import Recipe
from llm_jepa.rows import AnyDataset
from llm_jepa.train import meta_model
from llm_jepa.trainer import JEPATrainer
from llm_jepa.views import TokenSequence, longest_sequence_tokens, with_predictor_tokens

STREAMED_ROWS = 1000
PREDICTOR_PIECE = "[PRED]"


@dataclass(frozen=True)
class InspectedView:
    """A view with its predictor tokens, read at its last token; or the content in which a path of tokens is drawn."""

    name: str
    role: str
    pieces: list[str]


@dataclass(frozen=True)
class InspectedRow:
    """One row as the model sees it.

    Attributes:
        index: Of the row in the data set.
        pieces: Text of each token of the conversation.
        learnt: Whether the token is a label.
        views: The source's and the target's.
        stored: Text of each token as it is stored: all sequences if they share a row, else the conversation.
        mask_LL: Which stored token may attend to which.
        stored_tokens: Tokens that this row adds to the forward with gradient.
        detached_tokens: Tokens that it adds to the forward without.
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
    """A recipe's data, as far as it can be known before training.

    Attributes:
        layout: The layout's name and why.
        dropout: Share of the steps that compute no view.
        num_rows: Rows looked at, `is_partial` if a stream has more.
        dropped: Index and tokens of each row longer than `max_length`.
        counts: Name of a sequence -> its length in tokens in every kept row.
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
    """Prepare a recipe's training data and look at its first `num_rows` rows that training would keep.

    Raises:
        ValueError: As the trainer would raise it for these data and this model.
    """
    args = recipe.training
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    tokenizer = load_tokenizer(model_path, recipe.model.model_revision, args.trust_remote_code)
    dataset = load_split(recipe.script, recipe.script.dataset_train_split)
    is_partial = isinstance(dataset, IterableDataset)
    if is_partial:
        dataset = Dataset.from_list(list(dataset.take(STREAMED_ROWS)))
    trainer = _stand_in_trainer(recipe, dataset, tokenizer)
    prepared = trainer.train_dataset
    assert isinstance(prepared, Dataset)
    lengths = [longest_sequence_tokens(row, args.num_predictor_tokens) for row in prepared]
    limit = args.max_length if args.max_length is not None else max(lengths)
    kept = prepared.select([i for i, tokens in enumerate(lengths) if tokens <= limit])
    collator, reason = _collator(recipe, model_path, trainer, tokenizer)
    return Inspection(
        layout=reason,
        dropout=args.jepa_dropout if args.jepa_weight > 0 else 0.0,
        num_rows=len(dataset),
        is_partial=is_partial,
        max_length=args.max_length,
        dropped=[(prepared[i]["row_index"], tokens) for i, tokens in enumerate(lengths) if tokens > limit],
        counts=_counts(kept, collator),
        rows=[_inspect_row(row, collator, tokenizer) for row in kept.select(range(min(num_rows, len(kept))))],
    )


def _stand_in_trainer(recipe: Recipe, dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase) -> JEPATrainer:
    args = copy.copy(recipe.training)
    args.max_length, args.long_rows = None, "drop"  # so that the long rows can be shown
    args.from_scratch, args.model_init_kwargs, args.report_to = False, None, []
    args.jepa_layout = "rows"  # that of the recipe is the real model's
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    stand_in = LlamaForCausalLM(config)
    return JEPATrainer(stand_in, args, train_dataset=dataset, processing_class=tokenizer)


def _collator(
    recipe: Recipe, model_path: str, trainer: JEPATrainer, tokenizer: PreTrainedTokenizerBase
) -> tuple[JEPACollator, str]:
    """The collator with the layout of the recipe's own architecture."""
    args = recipe.training
    assert isinstance(trainer.data_collator, JEPACollator)
    conversations = trainer.data_collator.conversation_collator
    if args.jepa_weight == 0:
        return JEPACollator(conversations, None, args), "none: `jepa_weight` is 0, the LM-only arm has no views"
    if args.jepa_objective != "pair":
        rows = RowsLayout(tokenizer.pad_token_id)
        return JEPACollator(conversations, rows, args), f"{rows.name} (`{args.jepa_objective}` adds no token)"
    layout, _, reason = choose_layout(meta_model(recipe, model_path), args.jepa_layout, tokenizer.pad_token_id)
    if isinstance(layout, PackedLayout):
        layout = PackedLayout(tokenizer.pad_token_id)  # in one row, to be shown; a batch may take two in training
    return JEPACollator(conversations, layout, args), f"{layout.name} ({reason})"


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
    if not _has_views(row):
        return
    if config.jepa_objective != "pair":
        for name in ("source", "target"):
            start, end = row[f"{name}_span"]
            yield InspectedView(name, "content", _pieces(row["input_ids"][start:end], tokenizer))
        return
    predicting = config.jepa_direction.partition("_to_")[0]
    for name in ("source", "target"):
        is_predicting = name == predicting
        sequence = with_predictor_tokens(
            row[f"{name}_ids"],
            row[f"{name}_start"],
            config.num_predictor_tokens if is_predicting else 0,
            config.predictor_position,
            tokenizer.pad_token_id,
        )
        yield InspectedView(
            name, "predicts" if is_predicting else "is predicted", _sequence_pieces(sequence, tokenizer)
        )


def _laid_out(row: dict, collator: JEPACollator) -> tuple[Batch | None, int]:
    """The row's own batch, and the tokens that are encoded without gradient."""
    batch = collator([row])
    views = batch.get("views") or batch.get("conversations")
    if views is None:
        return None, 0
    detached = views["detached"]
    return Batch(**views["batch"]), 0 if detached is None else Batch(**detached).num_tokens


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


def _has_views(row: dict) -> bool:
    """Whether the row has views or spans; the LM-only arm does without, on a text or on pre-tokenised rows."""
    return "source_ids" in row or "source_span" in row


def _view_tokens(row: dict, name: str) -> int:
    if not _has_views(row):
        return 0
    if f"{name}_ids" in row:
        return len(row[f"{name}_ids"])
    start, end = row[f"{name}_span"]
    return end - start


def _pieces(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [str(tokenizer.decode([token_id])) for token_id in token_ids]


def _sequence_pieces(sequence: TokenSequence, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    pieces = _pieces(list(sequence.token_ids), tokenizer)
    return [PREDICTOR_PIECE if slot else piece for piece, slot in zip(pieces, sequence.slots, strict=True)]


def _stored_pieces(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    sequence = TokenSequence(tuple(batch.input_ids_RL[0].tolist()), tuple(batch.slots_RL[0].tolist()))
    return _sequence_pieces(sequence, tokenizer)
