"""`llm-jepa COMMAND ...`. One module per command, imported when its command line has been read and found right.

A command's module has `run(args) -> exit status`, and the first line of its docstring is its help; `arguments` has the
arguments of all. A command that takes a RECIPE (an argument `recipe`) gets the rest of its command line, overrides of
the recipe, as `args.overrides`.
"""

import argparse
import ast
import importlib
import sys
from pathlib import Path
from typing import NoReturn

from llm_jepa.cli.arguments import ADD_ARGUMENTS, REQUIRED_TO_LOOK, names_a_recipe
from llm_jepa.data.source import check_data_set
from llm_jepa.entry import entry_point
from llm_jepa.evaluation.subject_checks import check_subject
from llm_jepa.experiments.spec import read_experiment
from llm_jepa.preflight import check_files
from llm_jepa.settings.checks import REQUIRED, check_recipe
from llm_jepa.settings.reading import read_overrides
from llm_jepa.settings.secrets import redacted_text

COMMANDS = {
    "train": "train",
    "inspect": "inspect",
    "plan": "plan",
    "fetch-model": "fetch_model",
    "eval": "eval",
    "compare": "compare",
    "probe": "probe",
    "merge": "merge",
    "push": "push",
    "env": "env",
}
"""Command -> its module in this package."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    with entry_point():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: list[str]) -> int:
    parser = _Parser(prog="llm-jepa", description="Fine-tune causal LMs with LLM-JEPA.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        summary = _summary(module_name)
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        ADD_ARGUMENTS[name](command)
    args = _parse(parser, argv)
    if hasattr(args, "recipe"):
        _refuse_recipe(args)
    if hasattr(args, "experiment"):
        args.experiment = read_experiment(args.experiment)
    return importlib.import_module(f"{__name__}.{COMMANDS[args.command]}").run(args)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(redacted_text(message))


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    args, overrides = parser.parse_known_args(argv)
    args.overrides = overrides
    if overrides and not hasattr(args, "recipe"):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    if overrides and argv[1] != args.recipe:  # the value of an override before it would be taken for the recipe
        parser.error(f"the recipe comes first: llm-jepa {argv[0]} RECIPE [--key value ...]")
    return args


def _refuse_recipe(args: argparse.Namespace) -> None:
    """Refuse a wrong recipe, override or data set before the command's module imports what takes seconds."""
    if args.command in ("eval", "probe"):
        check_subject(args.recipe, args.overrides, args.checkpoints)
        return
    if not names_a_recipe(args):
        read_overrides(args.overrides)
        if args.command == "inspect":
            check_data_set(args.recipe)
        return
    required = REQUIRED_TO_LOOK if args.command == "inspect" else REQUIRED
    settings = check_recipe(Path(args.recipe), args.overrides, required)
    if args.command == "train":
        check_files(settings)
    else:
        check_data_set(settings["dataset_name"])


def _summary(module_name: str) -> str:
    """The first line of a module's docstring, read from its source: importing it would import torch."""
    source = (Path(__file__).parent / f"{module_name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
