"""A view is a column, a field nested in one, or a template of columns; what is not there is named."""

import pickle

import pytest
from datasets import Dataset

from llm_jepa import JEPAConfig
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.rows import to_rows
from llm_jepa.settings.view_fields import MissingViewError, find_fields

ROW = {
    "id": 7,
    "question": "digits",
    "schema": None,
    "example.lang": "dotted",
    "example": {"question": {"text": "nested", "lang": "en"}, "answers": ["first", "second"], "label": 3},
    "turns": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": None}],
    "two words": "spaced",
    "order": {"items": "three", "answers": ["first", None]},
    "namespace": "a column",
}


def text(expression: str, row: dict = ROW) -> str:
    [field] = find_fields([expression], list(row))
    assert pickle.loads(pickle.dumps(field)) == field  # processes that map rows get it so
    return field.text(row)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("question", "digits"),
        ("two words", "spaced"),
        ("example.lang", "dotted"),
        ("example.question.text", "nested"),
        ("example.answers.1", "second"),
        ("turns.0.value", "hello"),
        ("{{ question }}", "digits"),
        ("{{ example.question.text }} ({{ example.answers | join('|') }})", "nested (first|second)"),
        ("{{ id }}: {% if schema %}{{ schema }}{% else %}none{% endif %}", "7: none"),
        ("{% for turn in turns[:1] %}\n{{ turn.value }}\n{% endfor %}", "hello\n"),
        ("{{ order.items }} {{ turns | map(attribute='value') | first }}", "three hello"),
        ("{{ namespace }}", "a column"),
        ("{{ schema or question }} {{ schema | default('none') }} {{ schema is none }}", "digits none True"),
        ("{{ schema == none }} {{ schema != none }} {{ schema is defined }}", "True False False"),
        ("{{ order.answers | select | join('|') }} {{ 'some' if order.answers.1 else 'none' }}", "first none"),
        (
            "{{ example | tojson }}",
            '{"answers": ["first", "second"], "label": 3, "question": {"lang": "en", "text": "nested"}}',
        ),
    ],
)
def test_a_view_is_where_its_expression_says(expression, expected):
    """The column that is called exactly so comes first; a path leads through fields and positions."""
    assert text(expression) == expected


def test_a_path_into_a_column_whose_own_name_has_a_dot():
    assert text("a.b.c", {"a.b": {"c": "longest"}, "a": {"b": {"c": "shorter"}}}) == "longest"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("schema", "column 'schema' is null or empty."),
        ("example.question.txt", "there is no field 'example.question.txt': 'example.question' has the fields"),
        ("example.questions.text", "'example' has the fields ['question', 'answers', 'label']."),
        ("example.answers.2", "there is no field 'example.answers.2': 'example.answers' has 2 items."),
        ("turns.1.value", "field 'turns.1.value' is null or empty."),
        ("{{ question }} {{ schema }}", "needs a value, but 'schema' is null;"),
        ("{{ turns[1].value }}", "'turns.1.value' is null;"),
        ("{{ question ~ schema }}", "'schema' is null;"),
        ("{{ schema | trim }}", "'schema' is null;"),
        ("{{ [question, schema] | join(' ') }}", "'schema' is null;"),
        ("{{ question }}{% for item in schema %}{{ item }}{% endfor %}", "'schema' is null;"),
        ("{{ '%s' % schema }}", "'schema' is null;"),
        ("{{ order | tojson }}", "'order.answers.1' is null;"),
        ("{{ order.answers | string }}", "'order.answers.1' is null;"),
        ("{{ example.question.txt }}", "has no attribute 'txt'"),
    ],
)
def test_a_missing_field_is_named(expression, message):
    with pytest.raises(MissingViewError) as error:
        text(expression)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("example.label", "field 'example.label' holds int, not a string. Write `{{ example.label }}`"),
        ("{{ id + question }}", "cannot be rendered: unsupported operand"),
        ("{{ question.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ turns.append(1) }}", "cannot be rendered"),
        ("{{ question.upper }}", "is not a string or a number"),
        ("{{ example.answers }}", "['first', 'second'] is not a string or a number; `| join`"),
        ("{{ none }} {{ question }}", "None is not a string"),
    ],
)
def test_a_view_that_is_no_text_or_unsafe_is_refused(expression, message):
    with pytest.raises(ValueError, match=r".") as error:
        text(expression)
    assert message in str(error.value)
    assert not isinstance(error.value, MissingViewError)


def test_every_name_of_a_template_is_a_columns():
    with pytest.raises(ValueError, match="has no column 'range'"):
        find_fields(["{{ question }}{{ range(3) | join }}"], ["question"])


def test_columns_that_an_expression_lacks_are_named_together():
    with pytest.raises(ValueError, match=r"has no column 'schem', 'answer\.text'\. It has: \['question'\]"):
        find_fields(["{{ question }} {{ schem }}", "answer.text"], ["question"])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{{ question", r"not a Jinja template: .* \(line 1\)"),
        ("Q: {{ 'a' }}", "names no column"),
        (" ", "`source_column` is empty"),
    ],
)
def test_a_bad_expression_is_refused_before_any_data(expression, message):
    with pytest.raises(ValueError, match=message):
        JEPAConfig("out", source_column=expression, target_column="answer")


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_made_of_fields_and_templates_and_bad_ones_are_named(streaming):
    examples = [{"q": {"text": f"q{i}"}, "schema": "t", "a": f"a{i}", "other": i} for i in range(2)]
    mapping = ColumnMapping("{{ q.text }}\nSchema: {{ schema }}", "a")
    dataset = Dataset.from_list([*examples, {"q": {"text": None}, "schema": "t", "a": "a", "other": 2}])
    rows = iter(to_rows(dataset.to_iterable_dataset(), mapping, False)) if streaming else None
    if rows is not None:
        assert next(rows) == {
            "prompt": "q0\nSchema: t\n", "completion": "a0", "source": "q0\nSchema: t", "target": "a0", "row_index": 0,
        }  # fmt: skip
        assert next(rows)["row_index"] == 1
    with pytest.raises(ValueError, match=r"Row 2: the template .* 'q\.text' is null;"):
        next(rows) if rows is not None else to_rows(dataset, mapping, False)
