"""Loads the tuned model of a run, or of what was merged or pulled, with its tokenizer."""

from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.models.base_and_tuned import load_checkpoints, set_precision
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_tuned
from llm_jepa.recipe import Recipe


def load_tuned(
    directory: Path, dtype: str | None = None
) -> tuple[Recipe, PreTrainedTokenizerBase, PreTrainedModel | PeftModel]:
    """The recipe, the tokenizer and the model of a directory, on the device of `llm-jepa eval`.

    Args:
        dtype: Precision of the weights; that of training if None.

    Raises:
        ValueError: There is no model, or it cannot be loaded.
    """
    recipe, checkpoint = read_tuned(directory)
    set_precision(recipe, dtype)
    tokenizer = load_run_tokenizer(recipe)
    ((_, _, model),) = load_checkpoints(recipe, [checkpoint], len(tokenizer))
    return recipe, tokenizer, model
