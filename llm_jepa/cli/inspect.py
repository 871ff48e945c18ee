"""Show rows as the model will see them, before any training; or what a data set holds, and how to map it."""

import argparse

from rich.console import Console

from llm_jepa.cli.arguments import names_a_recipe


def run(args: argparse.Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if not names_a_recipe(args):
        from llm_jepa.cli.inspect_data import show_data

        show_data(console, args)
        return 0
    from llm_jepa.cli.inspect_recipe import show_recipe  # imports torch

    show_recipe(console, args)
    return 0
