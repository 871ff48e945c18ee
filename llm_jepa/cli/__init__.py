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

from llm_jepa.cli.arguments import ADD_ARGUMENTS, HELP_ALL, Version
from llm_jepa.cli.refusals import check_arguments
from llm_jepa.entry import entry_point, imports_uncollected
from llm_jepa.settings.secrets import redacted_text

COMMANDS = {
    "train": "train",
    "train-decoder": "train_decoder",
    "inspect": "inspect",
    "plan": "plan",
    "fetch-model": "fetch_model",
    "eval": "eval",
    "compare": "compare",
    "probe": "probe",
    "answer": "answer",
    "generate": "generate",
    "latency": "latency",
    "export": "export",
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
    parser.add_argument("--version", action=Version, help="show the version, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        summary = _summary(module_name)
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        ADD_ARGUMENTS[name](command)
    args = _parse(parser, argv)
    check_arguments(args)
    with imports_uncollected():
        command_module = importlib.import_module(f"{__name__}.{COMMANDS[args.command]}")
    return command_module.run(args)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(redacted_text(message))


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    args, overrides = parser.parse_known_args([_with_underscores(word) for word in argv])
    args.overrides = overrides
    if overrides and not hasattr(args, "recipe"):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    if overrides and argv[1] != args.recipe:  # the value of an override before it would be taken for the recipe
        parser.error(f"the recipe comes first: llm-jepa {argv[0]} RECIPE [--key value ...]")
    return args


def _with_underscores(word: str) -> str:
    """An option as it is listed: `--max-rows=2` -> `--max_rows=2`. Any other word as it is."""
    name, equals, value = word.partition("=")
    if not name.startswith("--") or " " in name or name == HELP_ALL:
        return word
    return name[:2] + name[2:].replace("-", "_") + equals + value


def _summary(module_name: str) -> str:
    """The first line of a module's docstring, read from its source: importing it would import torch."""
    source = (Path(__file__).parent / f"{module_name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
