"""Checks a path in a directed graph against the graph: every right path counts, not one text.

A source is edges, then start and goal, with `|` between them and, if you like, `=` at the end:

    4 7 | 0 4 | 7 2 | 0 2 =        the edges 4 -> 7, 0 -> 4 and 7 -> 2; the path from 0 to 2 is `0 4 7 2`

A path is the names of its nodes in order, with white space between them.
"""

from itertools import pairwise

from llm_jepa.scoring.gold import GoldError


def is_path(prediction: str, source: str) -> bool:
    """Whether the prediction is a path from start to goal along the source's edges that visits no node twice.

    Raises:
        GoldError: The source cannot be read.
    """
    edges, start, goal = read_graph(source)
    nodes = prediction.split()
    return (
        nodes[:1] == [start]
        and nodes[-1:] == [goal]
        and len({*nodes}) == len(nodes)
        and edges.issuperset(pairwise(nodes))
    )


def read_graph(source: str) -> tuple[set[tuple[str, str]], str, str]:
    """The edges, the start and the goal of a source; raises as `is_path` does."""
    parts = [part.split() for part in source.strip().removesuffix("=").split("|")]
    if len(parts) < 2 or any(len(part) != 2 for part in parts):
        raise GoldError(
            "the graph cannot be read",
            f"the source {source[-80:]!r} is no graph; write edges, then start and goal: `a b | b c | a c`.",
        )
    *edges, (start, goal) = parts
    return {(first, second) for first, second in edges}, start, goal
