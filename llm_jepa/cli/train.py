"""Train a recipe, or take up an interrupted run of it."""

import argparse
import shlex
from typing import TYPE_CHECKING

from llm_jepa.data.local_splits import splits_without
from llm_jepa.train import train
from llm_jepa.vision.recipe import parse_any_recipe

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource


def run(args: argparse.Namespace) -> int:
    argv = [args.recipe, *args.overrides]
    recipe = parse_any_recipe(argv)
    train(recipe)
    if recipe.training.process_index == 0:
        print(_hint(argv, recipe.source))
    return 0


def _hint(argv: list[str], source: "AnySource") -> str:
    """How to score the run; no command that would fail."""
    split = source.dataset_test_split
    known = splits_without(source, split)
    if not known:
        return f"To score it: llm-jepa eval {shlex.join(argv)}"
    return (
        f"To score it, name held-out rows by `dataset_name` and `dataset_test_split`: `{source.dataset_name}` has no "
        f"split `{split}`, only {', '.join(f'`{name}`' for name in known)}."
    )
