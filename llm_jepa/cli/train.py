"""Train a recipe, or take up an interrupted run of it."""

import argparse
import shlex

from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train


def run(args: argparse.Namespace) -> int:
    argv = [args.recipe, *args.overrides]
    recipe = parse_recipe(argv)
    train(recipe)
    if recipe.training.process_index == 0:
        print(f"To score it: llm-jepa eval {shlex.join(argv)}")
    return 0
