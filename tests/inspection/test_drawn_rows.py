"""A sample has the rows that training sees, with their numbers."""

import json
from pathlib import Path

import pytest

from llm_jepa.evaluation.held_out_rows import sample_indices
from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.recipe import Recipe, build_recipe
from tests.tiny import save_tiny_model

ROWS = [{"source": f"{number} and more", "target": str(number)} for number in range(8)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("drawn")
    save_tiny_model(directory / "model")
    return directory


@pytest.fixture
def recipe_of(directory, tmp_path):
    """A recipe of given rows, without those of given numbers."""

    def recipe(rows: list[dict], excluded: list[int], **options) -> Recipe:
        data, excluded_rows = tmp_path / "data.jsonl", tmp_path / "excluded.json"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        excluded_rows.write_text(json.dumps(excluded))
        given = {"model_name_or_path": str(directory / "model"), "dataset_name": str(data)}
        fixed = {"excluded_rows": str(excluded_rows), "output_dir": "unused", "use_cpu": True, "bf16": False}
        return build_recipe(Path("recipe.yaml"), given | fixed | options)

    return recipe


PAIR = {"source_column": "source", "target_column": "target"}


def test_a_stream_whose_column_mixes_types_is_prepared_as_training_reads_it(recipe_of):
    rows = [row | {"id": place if place % 2 else f"row {place}"} for place, row in enumerate(ROWS)]
    prepared = prepare_recipe(recipe_of(rows, [], dataset_streaming=True, max_steps=2, excluded_rows=None, **PAIR))
    assert len(prepared.rows) == len(ROWS)


@pytest.mark.parametrize("first", [0, 3], ids=["the last rows excluded", "the first rows excluded"])
def test_a_sample_is_drawn_from_the_rows_that_are_not_excluded(recipe_of, first):
    """Five of eight are excluded; of the three that are left, two are drawn, or all."""
    left = [*range(first, first + 3)]
    recipe = recipe_of(ROWS, [number for number in range(8) if number not in left], **PAIR)
    for max_rows in (2, 3):
        prepared = prepare_recipe(recipe, max_rows)
        numbers = prepared.rows["row_index"][:]
        assert {*numbers} <= {*left}
        assert (len(numbers), prepared.num_rows, prepared.total_rows) == (max_rows, max_rows, 3)
        assert prepared.is_partial == (max_rows == 2)
        for row in prepared.rows:
            assert f"{row['row_index']} and more" in prepared.tokenizer.decode(row["input_ids"])


def test_data_whose_rows_are_all_excluded_are_refused(recipe_of):
    with pytest.raises(ValueError, match="`excluded_rows` names all 8 rows of the data"):
        prepare_recipe(recipe_of(ROWS, [*range(8)], **PAIR), 2)


def test_a_row_of_a_sample_is_named_by_its_line(recipe_of):
    """The last of four drawn rows is not row 3."""
    bad = sample_indices(8, 4)[-1]
    assert bad > 3
    rows = [row | {"target": ""} if number == bad else row for number, row in enumerate(ROWS)]
    with pytest.raises(ValueError, match=rf"data.jsonl`, line {bad + 1}: .*empty"):
        prepare_recipe(recipe_of(rows, [], **PAIR), 4)
    rows[bad] = {"source": "long" * 100, "target": "b"}
    with pytest.raises(ValueError, match=rf"data.jsonl`, line {bad + 1}: the row has \d+ tokens; `max_length` is 200"):
        prepare_recipe(recipe_of(rows, [], **PAIR, max_length=200, long_rows="error"), 4)
    assert [row for row, _ in prepare_recipe(recipe_of(rows, [], **PAIR, max_length=200), 4).dropped] == [bad]


TURNS = [
    [{"role": role, "content": f"{role} {number} {turn}"} for turn in range(3) for role in ("user", "assistant")]
    for number in range(4)
]
VIEWS = {"view_columns": ["a", "b", "c", "d"], "view_pairs": "chain"}


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([{"messages": turns} for turns in TURNS], {"target_turn": "all"}),
        ([{name: f"{name} of {number}" for name in "abcd"} for number in range(4)], VIEWS),
    ],
    ids=["turns", "views"],
)
def test_rows_are_expanded_before_they_are_excluded_and_drawn(recipe_of, rows, options):
    """Four rows make twelve, of which three are left."""
    left = [4, 7, 8]
    recipe = recipe_of(rows, [number for number in range(12) if number not in left], **options)
    sample, whole = prepare_recipe(recipe, 2), prepare_recipe(recipe)
    assert (sample.num_rows, sample.total_rows, whole.num_rows, whole.total_rows) == (2, 3, 3, 3)
    assert whole.rows["row_index"][:] == left
    columns = ["row_index", "input_ids", "labels", "source_ids", "target_ids"]
    of_number = {row["row_index"]: row for row in whole.rows.select_columns(columns)}
    for row in sample.rows.select_columns(columns):
        assert row == of_number[row["row_index"]]


@pytest.mark.parametrize(("role", "row"), [("user", sample_indices(12, 3)[0] // 3), ("assistant", 0)])
def test_an_expanded_row_of_a_sample_is_named_by_the_line_it_comes_from(recipe_of, role, row):
    """A blank question ends the first drawn row, one of three of its conversation; blank answers end expansion."""
    turns = [turn | {"content": " "} if turn["role"] == role else turn for turn in TURNS[0]]
    with pytest.raises(ValueError, match=rf"data.jsonl`, line {row + 1}: "):
        prepare_recipe(recipe_of([{"messages": turns}] * 4, [], target_turn="all"), 3)
