"""Countdown: reach a target with given numbers and the operations + - * /.

The right first operation can be told only from the end of the calculation. Gandhi et al. 2024, Stream of Search (arXiv
2404.03683), made it a test of language models; there a solution is written with its search, here as one expression.
"""

import random

from llm_jepa.preparers.splits import Row


def check_countdown(num_numbers: int, max_number: int, max_target: int) -> None:
    """Raise ValueError if a size is out of range."""
    if num_numbers < 2 or max_number < 2 or max_target < 1:
        raise ValueError(
            f"num_numbers {num_numbers} and max_number {max_number} must be at least 2, max_target {max_target} at "
            "least 1."
        )


def draw_countdown(rng: random.Random, num_numbers: int, max_number: int, max_target: int) -> Row:
    """One puzzle with a solution that uses every number, in the form of `llm_jepa.scoring.countdown`.

    Two of the values that are left are drawn and joined by an operation until one value is left. Every value on the
    way is a whole number above 0; what leads elsewhere, or to a target above `max_target`, is drawn again.

    Example: `25 7 3 1 | 55 =` and `( ( 25 - 7 ) * 3 ) + 1`.
    """
    while True:
        numbers = [rng.randint(1, max_number) for _ in range(num_numbers)]
        solution = _draw_solution(rng, numbers)
        if solution is not None and solution[0] <= max_target:
            target, expression = solution
            return {"source": f"{' '.join(map(str, numbers))} | {target} =", "target": expression}


def _draw_solution(rng: random.Random, numbers: list[int]) -> tuple[int, str] | None:
    """The value and the text of an expression of all numbers; None if a value on the way is not allowed."""
    left = [(number, str(number)) for number in numbers]
    while len(left) > 1:
        (first, first_text), (second, second_text) = (left.pop(rng.randrange(len(left))) for _ in range(2))
        sign = rng.choice("+-*/")
        if (sign == "-" and first <= second) or (sign == "/" and first % second):
            return None
        value = {"+": first + second, "-": first - second, "*": first * second, "/": first // second}[sign]
        left.append((value, f"{_operand(first_text)} {sign} {_operand(second_text)}"))
    return left[0]


def _operand(text: str) -> str:
    return f"( {text} )" if " " in text else text


def puzzle_of(row: Row) -> tuple[int, ...]:
    """The target and the numbers of a row, sorted: the same for every order of the numbers and every solution."""
    numbers, _, target = row["source"].removesuffix("=").partition("|")
    return (int(target), *sorted(map(int, numbers.split())))
