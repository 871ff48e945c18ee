"""Prepares a recipe's training rows and its layout as its trainer would, without training.

The trainer's own preparation runs with a tiny stand-in model: neither the model's weights nor a device are used. The
layout depends on the model's architecture, which its config describes.
"""

import copy
import tempfile
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.partners import with_shuffled_partners
from llm_jepa.data.preparation import long_row_error
from llm_jepa.data.row_lines import row_errors_located
from llm_jepa.data.rows import is_tokenised
from llm_jepa.data.views import longest_sequence_tokens
from llm_jepa.inspection.drawn_rows import DrawnRows, draw_rows
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_tokenizer, meta_model, model_config
from llm_jepa.models.stop_tokens import generation_config_of
from llm_jepa.objectives.collator import JEPACollator
from llm_jepa.objectives.registry import new_objective
from llm_jepa.recipe import Recipe
from llm_jepa.trainer import JEPATrainer
from llm_jepa.training.model_limits import check_rows_of_model


@dataclass(frozen=True)
class PreparedRecipe:
    """A recipe's rows and layout.

    Attributes:
        model_path: The model's directory or Hub id.
        rows: The rows that are kept.
        dropped: Index and tokens of each row longer than `max_length`.
        num_rows: Rows prepared, without those of `excluded_rows`.
        total_rows: The same of the whole data set; of a stream, the rows prepared.
        is_partial: Whether the data set has more rows than were prepared.
        is_tokenised: Whether the data were already tokenised.
        collator: The collator with the model's layout.
        layout_reason: Why the model gets this layout.
        mask_form: The form of mask that the model takes.
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
        """The inputs of the model's forward for a micro-batch."""
        batch = self.collator(rows)
        if "laid_out" in batch:
            return {"laid_out": batch["laid_out"]}
        return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def prepare_recipe(recipe: Recipe, max_rows: int | None = None) -> PreparedRecipe:
    """Prepare a recipe's training data, or a random sample of `max_rows` rows.

    Raises:
        ValueError: The trainer would refuse these data or this model.
    """
    args = recipe.training
    model_path = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    tokenizer = load_tokenizer(model_path, recipe.model.model_revision, args.trust_remote_code)
    whole = load_split(recipe.script, recipe.script.dataset_train_split)
    config = model_config(recipe, model_path)
    mapping = ColumnMapping.from_args(args)
    names = ("train", "") if isinstance(whole, Dataset) else ()  # an error of expansion has no name
    loaded = dict.fromkeys(names, (recipe.script.dataset_train_split, whole))
    with row_errors_located(recipe.script, loaded, mapping):
        drawn = draw_rows(whole, args, max_rows)
        with drawn.errors_numbered():
            trainer = _stand_in_trainer(recipe, drawn, tokenizer, config, model_path)
    assert isinstance(trainer.train_dataset, Dataset)
    prepared = drawn.numbered(trainer.train_dataset)
    lengths = [longest_sequence_tokens(row, args.num_predictor_tokens) for row in prepared]
    limit = args.max_length if args.max_length is not None else max(lengths)
    row_indices = prepared["row_index"][:]
    dropped = [(row, tokens) for row, tokens in zip(row_indices, lengths, strict=True) if tokens > limit]
    kept = prepared.select([i for i, tokens in enumerate(lengths) if tokens <= limit])
    config.get_text_config().vocab_size = trainer.model.config.vocab_size  # a chat template may have added tokens
    with row_errors_located(recipe.script, loaded, mapping):
        if dropped and args.long_rows == "error":
            raise long_row_error(*dropped[0], limit)
        check_rows_of_model(kept, config, args.num_predictor_tokens if args.jepa_weight > 0 else 0, "train")
    if args.shuffles_pairs:
        kept = with_shuffled_partners(kept, args.seed, args.dataset_num_proc)
    collator, mask_form, reason = _collator(recipe, model_path, trainer, tokenizer)
    return PreparedRecipe(
        model_path=model_path,
        tokenizer=tokenizer,
        rows=kept,
        dropped=dropped,
        num_rows=len(prepared),
        total_rows=len(prepared) if drawn.total_rows is None else drawn.total_rows,
        is_partial=drawn.is_partial,
        is_tokenised=is_tokenised(drawn.rows),
        collator=collator,
        layout_reason=reason,
        mask_form=mask_form,
    )


def _stand_in_trainer(
    recipe: Recipe,
    drawn: DrawnRows,
    tokenizer: PreTrainedTokenizerBase,
    model_config: PretrainedConfig,
    model_path: str,
) -> JEPATrainer:
    """A trainer of a tiny model with the tokens and the stop tokens of the recipe's."""
    args = copy.copy(recipe.training)
    args.max_length, args.long_rows = None, "drop"  # the caller reports long rows, or refuses them
    args.shuffle_pairs = False  # partners are drawn from the rows that are left
    if drawn.numbers is not None:
        args.excluded_rows = None  # they were left out before the sample was drawn
    args.from_scratch, args.model_init_kwargs, args.report_to = False, None, []
    args.jepa_layout = "rows"  # the recipe's layout depends on the real model
    args._n_gpu = min(args.n_gpu, 1)  # rows are prepared on any machine; training refuses several GPUs
    config = LlamaConfig(
        vocab_size=model_config.get_text_config().vocab_size,
        max_position_embeddings=2**31,  # the caller compares the positions
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    stand_in = LlamaForCausalLM(config)
    stand_in.generation_config = generation_config_of(model_path, recipe.model.model_revision, model_config)
    with tempfile.TemporaryDirectory() as directory:
        args.output_dir = directory  # the trainer creates it
        return JEPATrainer(stand_in, args, train_dataset=drawn.rows, processing_class=tokenizer)


def _collator(
    recipe: Recipe, model_path: str, trainer: JEPATrainer, tokenizer: PreTrainedTokenizerBase
) -> tuple[JEPACollator, MaskForm, str]:
    """The collator with the layout for the recipe's architecture, the form of mask, and the reason."""
    args = recipe.training
    assert isinstance(trainer.data_collator, JEPACollator)
    conversations = trainer.data_collator.conversation_collator
    padding = MaskForm("padding")
    if args.jepa_weight == 0:
        reason = "none: with `jepa_weight: 0` there are no views"
        return JEPACollator(conversations, None, args), padding, reason
    objective = new_objective(args)
    assert objective is not None
    layout, form, reason = objective.choose_layout(meta_model(recipe, model_path), tokenizer.pad_token_id)
    return JEPACollator(conversations, layout, args), form, f"{layout.name} ({reason})"
