"""Generates path-star graphs G(degree, length) and the paths from their start to a goal.

    python data/path_star.py --output_dir data/path_star --degree 2 --length 4 --num_names 10

Nothing is downloaded. `llm_jepa.preparers.path_star` says what a graph is.
"""

import argparse
from functools import partial

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.drawn import SETTINGS, add_draw_arguments, drawn_splits
from llm_jepa.preparers.path_star import check_path_star, draw_path_star, graph_of
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import Row, Splits


def by_graph(row: Row) -> list[str]:
    return [graph_of(row)]


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    form = {"degree": options.degree, "length": options.length, "num_names": options.num_names}
    check_path_star(**form)
    return drawn_splits(partial(draw_path_star, **form), by_graph, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--degree", type=int, default=2, help="arms of the star (default 2)")
    parser.add_argument("--length", type=int, default=4, help="nodes on an arm, the start included (default 4)")
    parser.add_argument("--num_names", type=int, default=10, help="nodes are numbers below this (default 10)")
    add_draw_arguments(parser, num_train=320_000)


DATA_SET = DataSet(
    name="path_star",
    title="Path-star graphs",
    description="Graphs whose arms leave one node, and the path along the arm that ends at the goal. A model that "
    "follows an arm but guesses which is right in one of `degree` rows.",
    source="generated; the task is of Bachmann and Nagarajan 2024, The pitfalls of next-token prediction (arXiv "
    "2403.06963)",
    licence="apache-2.0",
    licence_text="that of the script, Apache-2.0.",
    columns={
        "source": "the edges in random order, then start and goal, with `|` between them and `=` at the end",
        "target": "the nodes of the path, start and goal included",
    },
    make_splits=make_splits,
    overlap=by_graph,
    overlap_text="a graph (the set of its edges, by name)",
    languages=(),
    add_arguments=add_arguments,
    settings=("degree", "length", "num_names", *SETTINGS),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
