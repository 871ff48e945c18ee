"""A recipe's training rows as its trainer would prepare them, and how it would lay them out, before any training.

The rows go through the trainer's own preparation, on a stand-in model of no size: neither the model's weights nor a
device are touched. Its architecture decides the layout, which needs its config alone.
"""

import copy
import tempfile
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import AnyDataset, is_tokenised
from llm_jepa.data.views import longest_sequence_tokens
from llm_jepa.layouts import RowsLayout
from llm_jepa.layouts.choice import choose_layout
from llm_jepa.layouts.collator import JEPACollator
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_tokenizer, meta_model
from llm_jepa.recipe import Recipe
from llm_jepa.trainer import JEPATrainer

STREAMED_ROWS = 1000


@dataclass(frozen=True)
class PreparedRecipe:
    """What a trainer would make of a recipe.

    Attributes:
        model_path: Where the model lies, or its Hub id.
        rows: Those that are kept.
        dropped: Index and tokens of each row longer than `max_length`.
        num_rows: Rows looked at; `is_partial` if there are more, in a stream or beside a sample.
        total_rows: Of the data set; of a stream, which cannot be counted, those looked at.
        is_tokenised: Whether the data were tokenised already, with the recipe's own views or with none.
        collator: With the layout that the model gets; `layout_reason` says why, `mask_form` how it takes the mask.
    """

    model_path: str
    tokenizer: PreTrainedTokenizerBase
    rows: Dataset
    dropped: list[tuple[int, int]]
    num_rows: int
    total_rows: int
    is_partial: bool
    is_tokenised: bool
    collator: JEPACollator
    layout_reason: str
    mask_form: MaskForm

    def inputs(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """What the model's forward gets of a micro-batch."""
        batch = self.collator(rows)
        if "laid_out" in batch:
            return {"laid_out": batch["laid_out"]}
        return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def prepare_recipe(recipe: Recipe, max_rows: int | None = None) -> PreparedRecipe:
    """Prepare a recipe's training data, or a random sample of so many rows.

    Raises:
        ValueError: As the trainer would raise it for these data and this model.
    """
    args = recipe.training
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    tokenizer = load_tokenizer(model_path, recipe.model.model_revision, args.trust_remote_code)
    whole = load_split(recipe.script, recipe.script.dataset_train_split)
    dataset, is_partial = _sample(whole, max_rows, args.seed)
    trainer = _stand_in_trainer(recipe, dataset, tokenizer)
    prepared = trainer.train_dataset
    assert isinstance(prepared, Dataset)
    lengths = [longest_sequence_tokens(row, args.num_predictor_tokens) for row in prepared]
    limit = args.max_length if args.max_length is not None else max(lengths)
    kept = prepared.select([i for i, tokens in enumerate(lengths) if tokens <= limit])
    collator, mask_form, reason = _collator(recipe, model_path, trainer, tokenizer)
    return PreparedRecipe(
        model_path=model_path,
        tokenizer=tokenizer,
        rows=kept,
        dropped=[(prepared[i]["row_index"], tokens) for i, tokens in enumerate(lengths) if tokens > limit],
        num_rows=len(dataset),
        total_rows=len(whole) if isinstance(whole, Dataset) else len(dataset),
        is_partial=is_partial,
        is_tokenised=is_tokenised(dataset),
        collator=collator,
        layout_reason=reason,
        mask_form=mask_form,
    )


def _sample(dataset: AnyDataset, max_rows: int | None, seed: int) -> tuple[Dataset, bool]:
    if isinstance(dataset, IterableDataset):
        return Dataset.from_list(list(dataset.take(max_rows or STREAMED_ROWS))), True
    if max_rows is None or len(dataset) <= max_rows:
        return dataset, False
    return dataset.shuffle(seed=seed).select(range(max_rows)), True


def _stand_in_trainer(recipe: Recipe, dataset: AnyDataset, tokenizer: PreTrainedTokenizerBase) -> JEPATrainer:
    args = copy.copy(recipe.training)
    args.max_length, args.long_rows = None, "drop"  # so that the long rows can be shown
    args.from_scratch, args.model_init_kwargs, args.report_to = False, None, []
    args.jepa_layout = "rows"  # that of the recipe is the real model's
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    stand_in = LlamaForCausalLM(config)
    with tempfile.TemporaryDirectory() as directory:
        args.output_dir = directory  # which a trainer makes
        return JEPATrainer(stand_in, args, train_dataset=dataset, processing_class=tokenizer)


def _collator(
    recipe: Recipe, model_path: str, trainer: JEPATrainer, tokenizer: PreTrainedTokenizerBase
) -> tuple[JEPACollator, MaskForm, str]:
    """The collator with the layout of the recipe's own architecture."""
    args = recipe.training
    assert isinstance(trainer.data_collator, JEPACollator)
    conversations = trainer.data_collator.conversation_collator
    padding = MaskForm("padding")
    if args.jepa_weight == 0:
        reason = "none: `jepa_weight` is 0, the LM-only arm has no views"
        return JEPACollator(conversations, None, args), padding, reason
    if args.jepa_objective != "pair":
        rows = RowsLayout(tokenizer.pad_token_id)
        reason = f"{rows.name} (`{args.jepa_objective}` adds no token)"
        return JEPACollator(conversations, rows, args), padding, reason
    layout, form, reason = choose_layout(meta_model(recipe, model_path), args.jepa_layout, tokenizer.pad_token_id)
    return JEPACollator(conversations, layout, args), form, f"{layout.name} ({reason})"
