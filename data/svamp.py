"""Prepares SVAMP: word problems of arithmetic to test on, and the older sets ASDiv-A and MAWPS to train on.

python data/svamp.py --output_dir data/svamp [--input_dir DIR]
"""

import argparse
import operator
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import LeftOut, Row, Rows, Splits, rows_of_split
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/arkilpatel/SVAMP/689d7ccac74b9983a2ac7cc3b264f441b99e7c53/"
    "data/mawps-asdiv-a_svamp"
)
VALIDATION_SHARE = 0.1
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
PLACEHOLDER = re.compile(r"\bnumber(\d+)\b")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
WRITTEN_NUMBER = re.compile(r"\d+(?:\.\d\d?)?")
TOLERANCE = Fraction(1, 1000)


def plain_number(text: str) -> str:
    """A number without an empty fraction: 56 for 56.0."""
    return text.removesuffix(".0")


def infix(equation: str, numbers: Sequence[str]) -> tuple[str, Fraction]:
    """An equation in prefix notation as an expression, and its value.

        infix("- number0 * number1 number2", ["25", "3", "8"])        25 - (3 * 8), 1

    Raises:
        ValueError, IndexError, ZeroDivisionError: The equation cannot be read, or has no value.
    """
    words = iter(equation.split())

    def operand() -> tuple[str, Fraction]:
        text, value = term()
        return (f"({text})", value) if " " in text else (text, value)

    def term() -> tuple[str, Fraction]:
        word = next(words, "")
        if word not in OPERATIONS:
            match = PLACEHOLDER.fullmatch(word)
            text = plain_number(word if match is None else numbers[int(match[1])])
            return text, Fraction(text)
        (left, left_value), (right, right_value) = operand(), operand()
        return f"{left} {word} {right}", OPERATIONS[word](left_value, right_value)

    expression = term()
    if rest := list(words):
        raise ValueError(f"{rest} are left over.")
    return expression


def question(record: Record) -> Row | LeftOut:
    """The row of one problem, with its numbers in place of `number0`, `number1` and so on."""
    numbers = [plain_number(text) for text in record.text("Numbers").split()]
    try:
        expression, value = infix(record.text("Equation"), numbers)
        source = PLACEHOLDER.sub(lambda match: numbers[int(match[1])], record.text("Question"))
        is_right = abs(value - Fraction(record.text("Answer"))) < TOLERANCE
    except (ValueError, IndexError, ZeroDivisionError):
        return LeftOut("whose equation cannot be read")
    if not is_right:
        return LeftOut("whose equation does not give the answer")
    answer = plain_number(str(float(value)))
    if not all(map(WRITTEN_NUMBER.fullmatch, [answer, *NUMBER.findall(source), *NUMBER.findall(expression)])):
        return LeftOut("with a negative answer, or a number of more than two decimals")
    return {"source": source, "target": f"{expression} = {answer}\n#### {answer}"}


def wording(row: Row) -> str:
    """A problem without its numbers: the same story with other numbers is the same wording."""
    return NUMBER.sub("#", row["source"])


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def rows(name: str) -> Iterator[Row | LeftOut]:
        return map(question, inputs[name].records())

    def cut(split: str) -> Rows:
        return rows_of_split(rows("train"), {"validation": VALIDATION_SHARE}, split, wording)

    return {"test": lambda: rows("test"), "validation": lambda: cut("validation"), "train": lambda: cut("train")}


DATA_SET = DataSet(
    name="svamp",
    title="SVAMP, with ASDiv-A and MAWPS to train on",
    description="Word problems of arithmetic, each with the expression that solves it. Tested on SVAMP, whose stories "
    "are varied so that key words alone do not tell the operation.",
    source="Patel et al. 2021, Are NLP Models really able to Solve Simple Math Word Problems? (arXiv 2103.07191); "
    "github.com/arkilpatel/SVAMP. It holds ASDiv-A (Miao et al. 2020) and MAWPS (Koncel-Kedziorski et al. 2016)",
    licence="mit",
    licence_text="MIT, Copyright (c) 2021 Arkil Patel; ASDiv itself is CC BY-NC 4.0.",
    columns={
        "source": "the problem",
        "target": "the expression and its value, and the answer as `#### N` in the last line",
    },
    files={
        "train": UpstreamFile(
            "train.csv",
            f"{PUBLISHED_AT}/train.csv",
            "sha256:c761cdc6390a67a285c6c346a2931f61bc8f47430eceaeb123cc3d0263efa821",
            3138,
        ),
        "test": UpstreamFile(
            "dev.csv",
            f"{PUBLISHED_AT}/dev.csv",
            "sha256:978425fa0820a147a20d3cb305a571d77b8ba0d1ccec4a96dd1470bf0079c338",
            1000,
        ),
    },
    make_splits=make_splits,
    overlap=lambda row: [wording(row)],
    overlap_text="a wording, whatever its numbers",
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
