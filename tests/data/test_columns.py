"""A column that a recipe names and its local files lack is named before anything is loaded."""

import json

import pytest

from llm_jepa.data.columns import check_named_columns


@pytest.fixture
def files(tmp_path):
    """The second row has a field more than the first."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in ({"question": "a"}, {"answer": {"text": "b"}})))
    return [path]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"source_column": "question", "target_column": "answer"},
        {"source_column": "question", "target_column": "answer.text"},
        {"source_column": "{{ question }} {{ answer }}"},
        {"view_columns": ["question", "answer"]},
    ],
)
def test_columns_of_any_row_are_found(files, settings):
    check_named_columns(settings, files)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"source_column": "qestion"},
            r"`source_column: qestion`: `.*rows.jsonl` has no column 'qestion'. It has: question, answer. "
            r"Did you mean `question`\?",
        ),
        ({"source_column": "question", "target_column": "x"}, r"`target_column: x`: .*It has: question, answer\.$"),
        ({"view_columns": ["question", "anser"]}, "`view_columns: anser`: .* Did you mean `answer`"),
        ({"target_column": "{{ answr }}"}, "`target_column: {{ answr }}`: .* has no column 'answr'"),
        ({"choices_column": "choices"}, "`choices_column: choices`: "),
    ],
)
def test_a_column_that_no_row_has_is_named_with_its_key(files, settings, message):
    with pytest.raises(ValueError, match=message):
        check_named_columns(settings, files)


@pytest.mark.parametrize(("name", "sign"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_a_table_has_the_columns_of_its_header(tmp_path, name, sign):
    path = tmp_path / name
    path.write_text(f'"the, question"{sign}answer\na{sign}b\n')
    check_named_columns({"source_column": "the, question", "target_column": "answer"}, [path])
    with pytest.raises(ValueError, match=r"no column 'question'\. It has: the, question, answer"):
        check_named_columns({"source_column": "question"}, [path])


def test_files_that_say_nothing_of_their_columns_pass(tmp_path):
    """Loading them says what is wrong."""
    for name, text in (
        ("a.jsonl", "not JSON\n"),
        ("b.jsonl", ""),
        ("c.parquet", "x"),
        ("d.jsonl", '{"input_ids": []}'),
    ):
        (tmp_path / name).write_text(text)
        check_named_columns({"source_column": "x"}, [tmp_path / name])
