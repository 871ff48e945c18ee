"""Show rows as the model will see them, before any training; or what a data set holds, and how to map it."""

import argparse

from llm_jepa.cli.arguments import REQUIRED_TO_LOOK, names_a_recipe
from llm_jepa.cli.consoles import new_console


def run(args: argparse.Namespace) -> int:
    console = new_console(highlight=False, soft_wrap=True)
    if not names_a_recipe(args):
        _refuse_pages(args)
        from llm_jepa.cli.inspect_data import show_data

        show_data(console, args)
        return 0
    from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe  # imports torch

    recipe = parse_any_recipe([args.recipe, *args.overrides], REQUIRED_TO_LOOK)
    if isinstance(recipe, VisionRecipe):
        from llm_jepa.cli.inspect_vision import show_vision_recipe

        show_vision_recipe(console, args, recipe)
        return 0
    _refuse_pages(args)
    from llm_jepa.cli.inspect_recipe import show_recipe

    show_recipe(console, args, recipe)
    return 0


def _refuse_pages(args: argparse.Namespace) -> None:
    idle = [f"--{name}" for name in ("html", "runs") if getattr(args, name)]
    if idle:
        raise ValueError(f"`{'` and `'.join(idle)}` is for recipes of VL-JEPA alone. Leave it out.")
