"""Scores GSM8K answers by the number after `####` (strict) or the last number (flexible), as lm-eval does.

The two patterns and the characters ignored in comparisons (`$`, commas, one trailing full stop) are those of lm-eval's
task `gsm8k`, version 3. There are three differences; each can only turn a wrong answer into a right one:
- Answers are compared as numbers: 18.00, 018 and 18 are equal. lm-eval compares texts.
- All full stops and commas after a number are ignored ("18..." is 18), and so is `%`.
- The flexible answer is the last match with a digit in it; lm-eval's may be "..." or "$$".
Fractions are not parsed: the last number of "1/2" is 2, as in lm-eval. No gold of GSM8K is a fraction.
"""

import re
from decimal import Decimal

from llm_jepa.scoring.gold import GoldError

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def strict_answer(text: str) -> str | None:
    """The text of the number after the first `#### `; None without one."""
    match = _STRICT.search(text)
    return None if match is None else match[1]


def flexible_answer(text: str) -> str | None:
    """The text of the last number; None without one."""
    answers = [answer for answer in _FLEXIBLE.findall(text) if _DIGIT.search(answer)]
    return answers[-1] if answers else None


def parse_number(text: str) -> Decimal | None:
    """The exact value of a number in digits, optionally with sign, `$`, `%`, commas and trailing full stops.

    All commas are ignored, and `%` does not divide by 100. None if the text is not such a number.
    """
    text = text.strip().replace(",", "").replace("$", "").removesuffix("%").rstrip(".")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def math_equal(a: str | None, b: str | None) -> bool:
    """Whether both texts are numbers and equal. None and other texts equal nothing."""
    if a is None or b is None:
        return False
    number = parse_number(a)
    return number is not None and number == parse_number(b)


def is_strict_math_match(prediction: str, gold: str) -> bool:
    """Whether the prediction's strict answer is the gold's number.

    Parameters:
        prediction: The generated text.
        gold: A solution that ends in `#### number`, or only the number.

    Raises:
        GoldError: The gold holds no such number.
    """
    return math_equal(strict_answer(prediction), gold_answer(gold))


def is_flexible_math_match(prediction: str, gold: str) -> bool:
    """Whether the prediction's last number is the gold's; parameters and errors as in `is_strict_math_match`."""
    return math_equal(flexible_answer(prediction), gold_answer(gold))


def gold_answer(gold: str) -> str:
    """The text of a gold's number; raises as `is_strict_math_match` does."""
    answer = gold.rpartition("#### ")[2]
    if parse_number(answer) is None:
        raise GoldError(
            "the gold has no number",
            f"Gold {gold[-80:]!r} has no number to compare with; it must end in `#### number` or be a number.",
        )
    return answer
