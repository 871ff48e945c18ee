"""Where the steps of a target end: by hand, for any text and tokenizer, and in prepared rows."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa.data.steps import StepMaker, step_ends
from tests.data.preparing import TOKENISED
from tests.templates import TEXT_TEMPLATES, chat_row, greedy_tokenizer, plain_row, with_template
from tests.tiny import tiny_tokenizer

LINES = r"\n"
SOLUTION = "She has 2+3=5.\nThen 5-1=4.\n\n#### 4"


def ends_of(tokenizer, row: dict, separator: str = LINES) -> list[int]:
    return StepMaker(tokenizer, separator, "Mend it.")(row)["step_ends"]


def texts_up_to(tokenizer, input_ids: list[int], ends: list[int]) -> list[str]:
    return [tokenizer.decode(input_ids[: end + 1]) for end in ends]


def test_the_worked_example():
    pieces = ["Sum", "?", "\n", "a", "=2", "\n", "b", "=", "3"]
    text = "".join(pieces)
    offsets, begin = [], 0
    for piece in pieces:
        offsets.append((begin, begin + len(piece)))
        begin += len(piece)
    assert step_ends(re.compile(LINES), "a=2\nb=3", text.index("a"), offsets) == [4, 8]


@pytest.mark.parametrize(
    ("target", "separator", "expected"),
    [
        (SOLUTION, LINES, ["She has 2+3=5.", "\nThen 5-1=4.", "\n\n#### 4"]),
        ("one line", LINES, ["one line"]),
        ("a \n \n b", LINES, ["a", " \n \n b"]),
        ("A is 1. B is 2. So C.", r"\. ", ["A is 1.", " B is 2.", " So C."]),
        ("First x; then y", r";|\bthen\b", ["First x;", " then", " y"]),
        ("Step 1 aStep 2 b", r"(?=Step \d)", ["Step 1 a", "Step 2 b"]),
    ],
)
def test_a_step_ends_with_its_separator_and_before_white_space(target, separator, expected):
    """A character a token, so that every end is exact."""
    offsets = [(i, i + 1) for i in range(2 + len(target))]
    bounds = [2, *(end + 1 for end in step_ends(re.compile(separator), target, 2, offsets))]
    assert [target[i - 2 : j - 2] for i, j in itertools.pairwise(bounds)] == expected


contents = st.text(st.sampled_from("ab1 .\n\u00e9\u2603"), min_size=1, max_size=30).filter(str.strip)


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), greedy_tokenizer()], ids=["regex", "greedy"])
@settings(deadline=None)
@given(target=contents, separator=st.sampled_from([LINES, r"\.", r"(?=a)", r"[b\n]+", r"\s"]))
def test_the_tokens_between_the_ends_are_the_target(tokenizer, target, separator):
    """In order, each once; each step's last byte is in the token at one of the ends."""
    row = plain_row(tokenizer, "Q", ":", target)
    ends, content = ends_of(tokenizer, row, separator), target.strip()
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])  # of bytes, a character each
    upto = [0, *itertools.accumulate(map(len, pieces))]
    steps = [pieces[i + 1 : j + 1] for i, j in itertools.pairwise([-1, *ends])]
    assert all(steps)
    begin = len(("Q:" + target[: len(target) - len(target.lstrip())]).encode())
    end = begin + len(content.encode())
    joined = tokenizer.convert_tokens_to_string(list(itertools.chain(*steps))).encode()
    assert joined[begin:end].decode() == content
    assert upto[ends[-1]] < end, "no token after the target's last"
    bounds = [match.end() for match in re.finditer(separator, content)] + [len(content)]
    last_bytes = {begin + len(content[:bound].rstrip().encode()) - 1 for bound in bounds} - {begin - 1}
    assert {i for i in range(len(pieces)) for byte in last_bytes if upto[i] <= byte < upto[i + 1]} == {*ends}


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_the_steps_of_a_chat_end_where_its_lines_do(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer, target=SOLUTION)
    texts = texts_up_to(tokenizer, row["input_ids"], ends_of(tokenizer, row))
    assert [text.endswith(line) for text, line in zip(texts, ["2+3=5.", "5-1=4.", "#### 4"], strict=True)] == [
        True
    ] * 3


def test_prepared_rows_have_the_ends_of_their_steps(prepare):
    rows = [{"source": "Sum?", "target": SOLUTION}, {"source": "Word?", "target": "yes"}]
    prepared = prepare(rows, jepa_objective="step")
    tokenizer = tiny_tokenizer()
    for row, last in zip(prepared, ["4", "s"], strict=True):
        assert tokenizer.decode(row["input_ids"][row["step_ends"][-1]]).endswith(last)
    assert [len(row["step_ends"]) for row in prepared] == [3, 1]
    assert prepare(prepared, jepa_objective="step").to_list() == prepared.to_list()
    both = prepare(rows, jepa_objective=["pair", "step", "tube"], step_separator=" ")
    assert {"source_ids", "source_span", "step_ends"} <= {*both.column_names}
    assert len(both[0]["step_ends"]) == 5


def test_all_of_a_plain_text_is_split_but_not_its_end_token(prepare):
    rows = [{"text": f" {SOLUTION}\n"}, {"text": "a"}]
    prepared = prepare(rows, jepa_objective=["step", "tube"])
    tokenizer = tiny_tokenizer()
    texts = [texts_up_to(tokenizer, row["input_ids"], row["step_ends"]) for row in prepared]
    assert texts == [[" She has 2+3=5.", " She has 2+3=5.\nThen 5-1=4.", f" {SOLUTION}"], ["a"]]
    assert "source_span" in prepared.column_names


def test_pre_tokenised_rows_bring_their_steps(prepare):
    (row,) = prepare([TOKENISED | {"step_ends": [1, 2, 3]}], jepa_objective="step")
    assert row["step_ends"] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"\['step_ends'\] are missing among"):
        prepare([TOKENISED], jepa_objective="step")


@pytest.mark.parametrize("ends", [[2, 1], [1, 1], [-1, 2], [3, 4]], ids=str)
def test_bad_steps_of_a_pre_tokenised_row_are_named(ends, prepare):
    good = TOKENISED | {"step_ends": [1, 3]}
    with pytest.raises(
        ValueError, match=r"Row 1: `step_ends` is .*; it must be rising positions of the row's 4 tokens"
    ):
        prepare([good, good | {"step_ends": ends}], jepa_objective="step")
