"""Train a recipe, or take up an interrupted run of it."""

import argparse

from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train


def run(args: argparse.Namespace) -> int:
    recipe = parse_recipe([args.recipe, *args.overrides])
    train(recipe)
    if recipe.training.process_index == 0:
        print(f"{'Adapter' if recipe.model.use_peft else 'Model'}: {recipe.output_dir}")
    return 0
