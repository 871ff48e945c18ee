"""Generates Countdown puzzles: numbers, a target, and an expression of the numbers that reaches it.

    python data/countdown.py --output_dir data/countdown --num_numbers 4 --max_number 50 --max_target 100

Nothing is downloaded. `llm_jepa.preparers.countdown` says how a puzzle is drawn.
"""

import argparse
from functools import partial

from llm_jepa.preparers.countdown import check_countdown, draw_countdown, puzzle_of
from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.drawn import SETTINGS, add_draw_arguments, drawn_splits
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import Row, Splits


def by_puzzle(row: Row) -> list[tuple[int, ...]]:
    return [puzzle_of(row)]


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    form = {
        "num_numbers": options.num_numbers,
        "max_number": options.max_number,
        "max_target": options.max_target,
    }
    check_countdown(**form)
    return drawn_splits(partial(draw_countdown, **form), by_puzzle, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num_numbers", type=int, default=4, help="numbers of a puzzle (default 4)")
    parser.add_argument("--max_number", type=int, default=50, help="numbers are 1 to this (default 50)")
    parser.add_argument("--max_target", type=int, default=100, help="targets are 1 to this (default 100)")
    add_draw_arguments(parser, num_train=320_000)


DATA_SET = DataSet(
    name="countdown",
    title="Countdown",
    description="Numbers, a target, and an expression of all the numbers that reaches it. Every value on the way is a "
    "whole number above 0. Other expressions may be right too, and may use fewer numbers.",
    source="generated; as a test of language models in Gandhi et al. 2024, Stream of Search (arXiv 2404.03683)",
    licence="apache-2.0",
    licence_text="that of the script, Apache-2.0.",
    columns={
        "source": "the numbers, `|`, the target and `=`",
        "target": "an expression in `+ - * / ( )`, with a space between its parts",
    },
    make_splits=make_splits,
    overlap=by_puzzle,
    overlap_text="a puzzle (the target and the numbers in any order)",
    languages=(),
    add_arguments=add_arguments,
    settings=("num_numbers", "max_number", "max_target", *SETTINGS),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
