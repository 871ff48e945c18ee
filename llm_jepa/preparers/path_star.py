"""Path-star graphs G(degree, length): as many arms as the degree leave one node; which of them ends at the goal?

Bachmann and Nagarajan 2024, The pitfalls of next-token prediction (arXiv 2403.06963). The first step is the only
choice. A model that learns each token from those before it learns to follow an arm, and guesses which arm: it is right
with probability 1 / degree.
"""

import random
from itertools import pairwise

from llm_jepa.preparers.splits import Row


def check_path_star(degree: int, length: int, num_names: int) -> None:
    """Raise ValueError if there is no graph of this form with so many names of nodes."""
    num_nodes = 1 + degree * (length - 1)
    if degree < 2 or length < 2 or num_names < num_nodes:
        raise ValueError(
            f"degree {degree} and length {length} must be at least 2, and num_names {num_names} at least the "
            f"{num_nodes} nodes of such a graph."
        )


def draw_path_star(rng: random.Random, degree: int, length: int, num_names: int) -> Row:
    """One graph with its path, in the form of `llm_jepa.scoring.path`.

    Args:
        rng: Draws the nodes' names, the goal's arm and the order of the edges.
        degree: Number of arms.
        length: Nodes on each arm, the start included.
        num_names: Names are the numbers below it.

    Example: G(2, 3) with the arms 4 7 2 and 4 0 5: `0 5 | 4 7 | 7 2 | 4 0 | 4 2 =` and `4 7 2`.
    """
    start, *others = map(str, rng.sample(range(num_names), 1 + degree * (length - 1)))
    arms = [[start, *others[i::degree]] for i in range(degree)]
    edges = [f"{first} {second}" for arm in arms for first, second in pairwise(arm)]
    rng.shuffle(edges)
    path = rng.choice(arms)
    return {"source": f"{' | '.join(edges)} | {start} {path[-1]} =", "target": " ".join(path)}


def graph_of(row: Row) -> str:
    """The edges of a row, sorted: the same for every order of edges and every goal."""
    return " | ".join(sorted(edge.strip() for edge in row["source"].split("|")[:-1]))
