"""Scores of answers to GSM8K: the number after `####` (strict) or the last number (flexible), as lm-eval takes them.

The two patterns and what is dropped before comparing (`$`, commas, one trailing full stop) are those of lm-eval's
task `gsm8k`, version 3. Three differences, each of which can only turn a wrong into a right:
- Answers are compared as numbers: 18.00, 018 and 18 are equal. lm-eval compares texts.
- More than one full stop or comma behind a number is dropped ("18..." is 18), and so is `%`.
- The flexible answer is the last match with a digit in it; lm-eval's may be "..." or "$$".
Fractions are not read: of "1/2" the last number is 2, here as there. No gold of GSM8K is one.
"""

import re
from decimal import Decimal

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_DIGIT = re.compile(r"[0-9]")
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def strict_answer(text: str) -> str | None:
    """What stands after the first `#### `, as it is written; None if no number-like text does."""
    match = _STRICT.search(text)
    return None if match is None else match[1]


def flexible_answer(text: str) -> str | None:
    """The last number of a text, as it is written; None if there is none."""
    answers = [answer for answer in _FLEXIBLE.findall(text) if _DIGIT.search(answer)]
    return answers[-1] if answers else None


def parse_number(text: str) -> Decimal | None:
    """The exact value of a number written with digits, perhaps with sign, `$`, `%`, commas and full stops behind it.

    Commas are dropped wherever they stand, and `%` does not divide by 100. None if the text is no such number.
    """
    text = text.strip().replace(",", "").replace("$", "").removesuffix("%").rstrip(".")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def math_equal(a: str | None, b: str | None) -> bool:
    """Whether both are numbers, and the same one. What is no number, or None, equals nothing."""
    if a is None or b is None:
        return False
    number = parse_number(a)
    return number is not None and number == parse_number(b)


def is_strict_math_match(prediction: str, gold: str) -> bool:
    """Whether the prediction's strict answer is the gold's number.

    Parameters:
        prediction: The generated text.
        gold: A solution that ends in `#### number`, or the number alone.

    Raises:
        ValueError: The gold holds no such number.
    """
    return math_equal(strict_answer(prediction), _gold_answer(gold))


def is_flexible_math_match(prediction: str, gold: str) -> bool:
    """Whether the prediction's last number is the gold's; parameters and errors of `is_strict_math_match`."""
    return math_equal(flexible_answer(prediction), _gold_answer(gold))


def _gold_answer(gold: str) -> str:
    answer = gold.rpartition("#### ")[2]
    if parse_number(answer) is None:
        raise ValueError(f"Gold {gold[-80:]!r} has no number to compare with; it must end in `#### number` or be one.")
    return answer
