"""Rows are checked before training, and what is wrong is named and counted."""

import pytest
from datasets import Dataset

from llm_jepa.options.vision import VisionOptions
from llm_jepa.vision.rows import answer_key, prepare_rows, refuse_one_answer
from tests.vision.tiny_parts import picture, tiny_processor

ROWS = [
    {"picture": "a.png", "ask": "what is it?", "say": "red", "of": ["red", "blue"], "more": 1},
    {"picture": "b.png", "ask": "which?", "say": "blue", "of": ["red", "blue"], "more": 2},
]
COLUMNS = {"image_column": "picture", "question_column": "ask", "answer_column": "say"}


@pytest.fixture
def directory(tmp_path):
    for name in ("a", "b"):
        picture("red").save(tmp_path / f"{name}.png")
    return tmp_path


def prepare(rows, directory=None, **options):
    settings = VisionOptions(**COLUMNS | options)
    return prepare_rows(Dataset.from_list(rows), settings, tiny_processor(), "train", directory)


def test_a_row_has_what_the_recipe_names(directory):
    rows = prepare(ROWS, directory, candidates_column="of")
    assert rows[1] == {
        "image": "b.png", "question": "which?", "answer": "blue", "candidates": ["red", "blue"], "row_index": 1,
    }  # fmt: skip
    assert prepare(ROWS, directory, question_column=None).column_names == ["image", "answer", "row_index"]


def test_answers_and_candidates_lose_the_white_space_around_them(directory):
    spaced = {"say": " blue\n", "of": ["red ", "blue"]}
    row = prepare([ROWS[0], ROWS[1] | spaced], directory, candidates_column="of")[1]
    assert (row["answer"], row["candidates"]) == ("blue", ["red", "blue"])


def test_the_blind_arm_reads_no_pictures():
    assert prepare(ROWS, inputs="question").column_names == ["question", "answer", "row_index"]


def test_pictures_stay_as_they_are_stored(directory):
    dataset = Dataset.from_list([{"picture": picture("red"), "ask": "?", "say": "red"}])
    rows = prepare_rows(dataset, VisionOptions(**COLUMNS), tiny_processor(), "train")
    assert set(rows[0]["image"]) == {"bytes", "path"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"question_column": "asks"}, r"`question_column: asks`: the train data have no such column. They have: "
         r"picture, ask, say, of, more. Did you mean `ask`\? Set it to null to ask nothing."),
        ({"say": " "}, {}, "Row 1 of the train data: `say` is empty"),
        ({"say": None}, {}, "Row 1 of the train data: `say` is NoneType, no text"),
        ({"ask": "a question " * 9}, {"max_question_tokens": 20},
         "1 of 2 rows of the train data have more tokens in `ask` than `max_question_tokens: 20`, the first: row 1 "
         r"with \d+\. Raise it"),
        ({"say": "an answer " * 9}, {"max_answer_tokens": 20}, "more tokens in `say` than `max_answer_tokens: 20`"),
        ({"of": ["blue", "another one " * 9]}, {"candidates_column": "of", "max_answer_tokens": 20},
         "1 of 2 rows of the train data have more tokens in `of` than `max_answer_tokens: 20`, the first: row 1 with"),
        ({"of": ["red"]}, {"candidates_column": "of"}, "Row 1 .* the answer 'blue' among them"),
        ({"of": ["blue", None]}, {"candidates_column": "of"}, "Row 1 .* a list of different texts"),
        ({"of": ["red", "blue", "red"]}, {"candidates_column": "of"}, "Row 1 .* a list of different texts"),
        ({"of": ["blue", "blue ", "red"]}, {"candidates_column": "of"}, "Row 1 .* a list of different texts"),
        ({"of": ["blue", " "]}, {"candidates_column": "of"}, "Row 1 .* none empty"),
        ({"picture": "c.png"}, {}, "Of 2 pictures 1 are missing, the first: row 1: picture `c.png`"),
    ],
)  # fmt: skip
def test_wrong_rows_are_refused(change, options, message, directory):
    with pytest.raises(ValueError, match=message):
        prepare([ROWS[0], ROWS[1] | change], directory, **options)


def test_answers_that_are_all_equal_are_refused(directory):
    rows = prepare([row | {"say": say} for row, say in zip(ROWS, ("red", "red "), strict=True)], directory)
    with pytest.raises(ValueError, match="All 2 answers of the training data are 'red'"):
        refuse_one_answer(rows)
    refuse_one_answer(prepare(ROWS, directory))


def test_keys_are_equal_for_equal_answers_alone():
    assert answer_key("two") == answer_key(" two\n")
    assert len({answer_key(text) for text in ("two", "Two", "two.", "t wo")}) == 4
    assert -(2**63) <= answer_key("two") < 2**63
