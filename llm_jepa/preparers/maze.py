"""Mazes of rooms, drawn in squares: rooms stand on even rows and columns, passages between them are opened at random.

The first move can be told only from the whole way to the goal.
"""

import random
from collections import deque

from llm_jepa.preparers.splits import Row
from llm_jepa.scoring.maze import MOVES, Square


def check_maze(size: int, num_loops: int) -> None:
    """Raise ValueError if there is no maze of this size, or it has no place for so many loops."""
    max_loops = (size - 1) ** 2
    if size < 2 or not 0 <= num_loops <= max_loops:
        raise ValueError(
            f"size {size} must be at least 2, and num_loops {num_loops} from 0 to (size - 1)^2, which is {max_loops}."
        )


def draw_maze(rng: random.Random, size: int, num_loops: int) -> Row:
    """One maze of `size` x `size` rooms with its shortest path, in the form of `llm_jepa.scoring.maze`.

    A walk that turns back where it is stuck opens a passage to every room, so there is one path between two rooms.
    `num_loops` further passages are opened, and there may be several then.

    Example, of size 2: `S . . / # # . / G . . =` and `R R D D L L`.
    """
    free = _carved(rng, size)
    walls = [one for one in _passages(size) if one not in free]
    free |= {*rng.sample(walls, num_loops)}
    rooms = [(y, x) for y in range(0, 2 * size, 2) for x in range(0, 2 * size, 2)]
    start, goal = rng.sample(rooms, 2)
    marks = dict.fromkeys(free, ".") | {start: "S", goal: "G"}
    sides = range(2 * size - 1)
    drawing = " / ".join(" ".join(marks.get((y, x), "#") for x in sides) for y in sides)
    return {"source": f"{drawing} =", "target": " ".join(_shortest_path(free, start, goal))}


def _carved(rng: random.Random, size: int) -> set[Square]:
    """The rooms and the passages of a maze without loops, carved by a depth-first walk."""
    at = (2 * rng.randrange(size), 2 * rng.randrange(size))
    trail, free = [at], {at}
    while trail:
        y, x = trail[-1]
        closed = [
            (dy, dx)
            for dy, dx in MOVES.values()
            if (y + 2 * dy, x + 2 * dx) not in free and 0 <= y + 2 * dy < 2 * size and 0 <= x + 2 * dx < 2 * size
        ]
        if not closed:
            trail.pop()
            continue
        dy, dx = rng.choice(closed)
        free |= {(y + dy, x + dx), (y + 2 * dy, x + 2 * dx)}
        trail.append((y + 2 * dy, x + 2 * dx))
    return free


def _passages(size: int) -> list[Square]:
    """The squares between two rooms: one of row and column is odd. There are 2 * size * (size - 1)."""
    return [(y, x) for y in range(2 * size - 1) for x in range(2 * size - 1) if (y + x) % 2]


def _shortest_path(free: set[Square], start: Square, goal: Square) -> list[str]:
    """The moves of a shortest path; of several, the first in a fixed order."""
    paths: dict[Square, list[str]] = {start: []}
    queue = deque([start])
    while goal not in paths:
        y, x = at = queue.popleft()
        for move, (dy, dx) in MOVES.items():
            there = (y + dy, x + dx)
            if there in free and there not in paths:
                paths[there] = [*paths[at], move]
                queue.append(there)
    return paths[goal]


def walls_of(row: Row) -> str:
    """The drawing of a row without start and goal."""
    drawing: str = row["source"]
    return drawing.replace("S", ".").replace("G", ".")
