"""Train a recipe, or take up an interrupted run of it."""

import argparse
import shlex

from llm_jepa.train import train
from llm_jepa.vision.recipe import parse_any_recipe


def run(args: argparse.Namespace) -> int:
    argv = [args.recipe, *args.overrides]
    recipe = parse_any_recipe(argv)
    train(recipe)
    if recipe.training.process_index == 0:
        print(f"To score it: llm-jepa eval {shlex.join(argv)}")
    return 0
