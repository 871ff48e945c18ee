"""Checks a solution of Countdown: an expression of the given numbers, evaluated exactly, in fractions.

A source is numbers, `|`, the target, and, if you like, `=` at the end:

    25 7 3 3 | 57 =        `( 25 - 7 ) * 3 + 3` is one of the right expressions
"""

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

from llm_jepa.scoring.gold import GoldError

_SOURCE = re.compile(r"([0-9 ]+)\|([0-9 ]+)=?")
_EXPRESSION = re.compile(r"[0-9+*/() -]+")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def is_countdown_solution(prediction: str, source: str) -> bool:
    """Whether the prediction is an expression in `+ - * / ( )` with the target's value.

    Each given number is used at most once, and no other number; a sign before a number is not allowed.

    Raises:
        GoldError: The source cannot be read.
    """
    numbers, target = read_countdown(source)
    text = prediction.strip()
    if not _EXPRESSION.fullmatch(text):
        return False
    try:
        expression = ast.parse(text, mode="eval").body
        used = Counter(node.value for node in ast.walk(expression) if isinstance(node, ast.Constant))
        return used <= Counter(numbers) and _value(expression) == target
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return False


def read_countdown(source: str) -> tuple[list[int], int]:
    """The numbers and the target of a source; raises as `is_countdown_solution` does."""
    match = _SOURCE.fullmatch(source.strip())
    numbers, target = ([], []) if match is None else (list(map(int, part.split())) for part in match.groups())
    if not numbers or len(target) != 1:
        raise GoldError(
            "the numbers cannot be read",
            f"the source {source[-80:]!r} is no puzzle; write whole numbers and the target: `25 7 3 | 54`.",
        )
    return numbers, target[0]


def _value(node: ast.expr) -> Fraction:
    """The exact value of an expression; ValueError if it is more than numbers and the four operations."""
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int), "the pattern allows no other constant"
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{type(node).__name__} is no number and no operation of the four")
