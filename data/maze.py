"""Generates mazes and the shortest path from start to goal.

    python data/maze.py --output_dir data/maze --size 4

Nothing is downloaded. `llm_jepa.preparers.maze` says how a maze is drawn.
"""

import argparse
from functools import partial

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.drawn import SETTINGS, add_draw_arguments, drawn_splits
from llm_jepa.preparers.maze import check_maze, draw_maze, walls_of
from llm_jepa.preparers.program import run
from llm_jepa.preparers.splits import Row, Splits


def by_walls(row: Row) -> list[str]:
    return [walls_of(row)]


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    form = {"size": options.size, "num_loops": options.num_loops}
    check_maze(**form)
    return drawn_splits(partial(draw_maze, **form), by_walls, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=4, help="rooms along a side (default 4)")
    parser.add_argument("--num_loops", type=int, default=0, help="passages beside the one way to a room (default 0)")
    add_draw_arguments(parser, num_train=160_000)


DATA_SET = DataSet(
    name="maze",
    title="Mazes",
    description="Mazes drawn in squares, and the shortest path from start to goal. With `--num_loops` other paths may "
    "be right too.",
    source="generated",
    licence="apache-2.0",
    licence_text="that of the script, Apache-2.0.",
    columns={
        "source": "the squares row by row: `#` wall, `.` free, `S` start, `G` goal, `/` end of a row, `=` end",
        "target": "the moves of one square: U, D, L, R",
    },
    make_splits=make_splits,
    overlap=by_walls,
    overlap_text="a maze (its walls, whatever start and goal)",
    languages=(),
    add_arguments=add_arguments,
    settings=("size", "num_loops", *SETTINGS),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
