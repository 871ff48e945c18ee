"""Checks a path through a maze against the drawing: every right path counts, not one text.

A source draws the maze row by row: `#` a wall, `.` a free square, `S` the start, `G` the goal, `/` the end of a row,
and, if you like, `=` at the end. Outside the drawing is wall.

    S . . / # # . / G . . =        the path is `R R D D L L`

A path is moves of one square, `U D L R`, with white space between them.
"""

from typing import NamedTuple

from llm_jepa.scoring.gold import GoldError

MOVES = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
"""Move -> its change of row and column."""
WALL, START, GOAL = "#", "S", "G"
_FREE = {".", START, GOAL}

Square = tuple[int, int]


class Maze(NamedTuple):
    """The free squares (row, column), start and goal among them."""

    free: set[Square]
    start: Square
    goal: Square


def is_maze_path(prediction: str, source: str) -> bool:
    """Whether the prediction leads from start to goal over free squares, none of them twice.

    Raises:
        GoldError: The source cannot be read.
    """
    maze = read_maze(source)
    square, unvisited = maze.start, maze.free - {maze.start}
    for move in prediction.split():
        if move not in MOVES:
            return False
        square = square[0] + MOVES[move][0], square[1] + MOVES[move][1]
        if square not in unvisited:
            return False
        unvisited.remove(square)
    return square == maze.goal


def read_maze(source: str) -> Maze:
    """The maze of a source; raises as `is_maze_path` does."""
    rows = [row.split() for row in source.strip().removesuffix("=").split("/")]
    squares = {(y, x): mark for y, row in enumerate(rows) for x, mark in enumerate(row)}
    starts, goals = ([at for at, mark in squares.items() if mark == wanted] for wanted in (START, GOAL))
    if len(starts) != 1 or len(goals) != 1 or not {*squares.values()} <= {WALL, *_FREE}:
        raise GoldError(
            "the maze cannot be read",
            f"the source {source[:80]!r} is no maze; draw it with `#`, `.`, one `S` and one `G`: `S . / # G`.",
        )
    return Maze({at for at, mark in squares.items() if mark in _FREE}, starts[0], goals[0])
