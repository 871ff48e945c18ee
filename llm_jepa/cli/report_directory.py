"""Where a command writes what it found of a subject."""

from collections.abc import Sequence
from pathlib import Path

from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.recipe import Recipe


def report_directory(named: Path | None, recipe: Recipe, checkpoints: Sequence[Checkpoint]) -> Path | None:
    """The directory that an argument names; else that of the run or adapter that was looked at, if it is here."""
    # An output directory made here would stand in the way of training; and a model's own directory is not ours to
    # write to, nor is the cache that keeps what a Hub id names.
    is_ours = "tuned" in checkpoints and recipe.output_dir.is_dir() and recipe.path.exists()
    return recipe.output_dir if named is None and is_ours else named
