"""Small sets that are generated, and for each a solver written by hand that knows no more than a row's source."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

SIZES = ["--num_train", "60", "--num_validation", "8", "--num_test", "12"]


def path_star(directory: Path) -> list[str]:
    return [*SIZES, "--degree", "3", "--length", "4", "--num_names", "12"]


def countdown(directory: Path) -> list[str]:
    return SIZES


def maze(directory: Path) -> list[str]:
    return [*SIZES, "--size", "4", "--num_loops", "2"]


def reversal_curse(directory: Path) -> list[str]:
    return ["--num_facts", "40"]


def solve_path(source: str) -> str:
    """Back from the goal: each node of a path-star has one edge that leads to it."""
    *edges, ends = source.removesuffix(" =").split(" | ")
    before = {second: first for first, second in (edge.split() for edge in edges)}
    start, node = ends.split()
    path = [node]
    while path[-1] != start:
        path.append(before[path[-1]])
    return " ".join(reversed(path))


def solve_countdown(source: str) -> str:
    """Every expression in turn."""
    numbers, target = source.removesuffix(" =").split(" | ")
    values = [(Fraction(number), number) for number in numbers.split()]
    return next(text for value, text in _expressions(values) if value == int(target))


def _expressions(values: list[tuple[Fraction, str]]) -> Iterator[tuple[Fraction, str]]:
    yield from values
    for i, (a, a_text) in enumerate(values):
        for j, (b, b_text) in enumerate(values):
            if i == j:
                continue
            rest = [one for k, one in enumerate(values) if k not in (i, j)]
            for sign, value in (("+", a + b), ("-", a - b), ("*", a * b), ("/", a / b if b else None)):
                if value is not None:
                    yield from _expressions([(value, f"({a_text} {sign} {b_text})"), *rest])


def solve_maze(source: str) -> str:
    """Depth first, and so not always by the shortest path."""
    grid = [row.split() for row in source.removesuffix(" =").split(" / ")]
    ((start_y, start_x),) = [(y, x) for y, row in enumerate(grid) for x, mark in enumerate(row) if mark == "S"]

    def moves_from(y: int, x: int, seen: frozenset[tuple[int, int]]) -> list[str] | None:
        if grid[y][x] == "G":
            return []
        for move, ny, nx in (("L", y, x - 1), ("D", y + 1, x), ("R", y, x + 1), ("U", y - 1, x)):
            inside = 0 <= ny < len(grid) and 0 <= nx < len(grid[0])
            if inside and grid[ny][nx] != "#" and (ny, nx) not in seen:
                rest = moves_from(ny, nx, seen | {(ny, nx)})
                if rest is not None:
                    return [move, *rest]
        return None

    moves = moves_from(start_y, start_x, frozenset({(start_y, start_x)}))
    assert moves is not None
    return " ".join(moves)


GENERATED: dict[str, Callable[[Path], list[str]]] = {
    one.__name__: one for one in (path_star, countdown, maze, reversal_curse)
}
"""Script -> the options that keep its set small."""
SOLVERS: dict[str, Callable[[str], str]] = {"path_star": solve_path, "countdown": solve_countdown, "maze": solve_maze}
TASKS = {"path_star": "path", "countdown": "countdown", "maze": "maze", "reversal_curse": "qa"}
