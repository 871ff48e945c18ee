"""A number is no view; a template writes it as the text that the error and `inspect` say."""

import json
import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from llm_jepa.cli import main
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import AnyDataset, to_rows
from llm_jepa.data.source import DataSource


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.chdir(tmp_path)


def load(rows: list[dict[str, Any]], split: str = "train", streaming: bool = False) -> AnyDataset:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_split(DataSource("rows.jsonl", dataset_streaming=streaming), split)


def error_of(dataset: AnyDataset, mapping: ColumnMapping) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the callers compare the message)
        list(to_rows(dataset, mapping, True))
    return str(error.value)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (0.50, "0.5"), (1e5, "100000.0"), (2**70, "1180591620717411303424"), (True, "True")]
)
@pytest.mark.parametrize("name", ["target", "source", "prompt", "completion", "row_index", "answer"])
def test_a_template_writes_a_number_whatever_its_column_is_called(name, value, text, streaming):
    """`datasets` casts a new column to the type of the old one of its name."""
    dataset = load([{name: value, "q": "a"}], streaming=streaming)
    (row,) = to_rows(dataset, ColumnMapping("q", f"{{{{ {name} }}}}"), True)
    assert row == {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": text}],
        "source": "a",
        "target": text,
        "row_index": 0,
    }


def test_a_text_keeps_its_form_in_a_column_of_mixed_types_called_target():
    rows = [{"source": "01", "target": "2024"}, {"source": "1.0", "target": "true"}, {"source": 1, "target": None}]
    made = to_rows(load(rows, "train[:2]"), ColumnMapping("source", "target"), True)
    assert [[row["source"], row["target"]] for row in made] == [["01", "2024"], ["1.0", "true"]]
    assert "Row 2: column 'source' holds int" in error_of(load(rows), ColumnMapping("source", "target"))


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (7, "column 'answer' holds int, not a string. Write `{{ answer }}` to train on it as '7'."),
        (0.50, "holds float, not a string. Write `{{ answer }}` to train on it as '0.5'."),
        (True, "Write `{{ answer }}` to train on it as 'True' or `{{ answer | tojson }}` to train on it as 'true'."),
        (datetime(2024, 1, 5), "Write `{{ answer | string }}` to train on it as '2024-01-05 00:00:00'."),
        (date(2024, 1, 5), "Write `{{ answer | string }}` to train on it as '2024-01-05'."),
        (Decimal("0.50"), "Write `{{ answer | string }}` to train on it as '0.50'."),
        ([1], "column 'answer' holds list, not a string."),
    ],
    ids=str,
)
def test_the_error_says_which_text_a_template_writes(value, advice):
    """Of the types of Parquet too. The template of each advice writes that text."""
    Dataset.from_list([{"question": "digits", "answer": value}]).to_parquet("rows.parquet")
    dataset = load_split(DataSource("rows.parquet"), "train")
    message = error_of(dataset, ColumnMapping("question", "answer"))
    assert message.endswith(advice)
    for template, text in re.findall(r"`({{.*?}})` to train on it as '(.*?)'", message):
        assert to_rows(dataset, ColumnMapping("question", template), True)["target"][:] == [text]


def test_a_number_in_a_chat_is_refused_with_its_text():
    chat = [{"role": "user", "content": 1}, {"role": "assistant", "content": 2}]
    assert error_of(load([{"messages": chat}]), ColumnMapping()) == (
        "Row 0: the source is int, not a string. Write it as a string in the data, such as '1'."
    )


@pytest.mark.parametrize(
    ("rows", "lines", "shown"),
    [
        ([{"source": "q", "target": 1e5}], "source_column: source\ntarget_column: '{{ target }}'\n", " 100000.0 "),
        ([{"question": 7, "answer": "a"}], "source_column: '{{ question }}'\ntarget_column: answer\n", " 7 "),
        ([{"x": {"question": "q"}, "answer": True}], "x.question\ntarget_column: '{{ answer }}'\n", " True "),
    ],
)
def test_inspect_proposes_the_template_of_a_number_and_shows_its_text(rows, lines, shown, capsys):
    load(rows)
    assert main(["inspect", "rows.jsonl"]) == 0
    printed = capsys.readouterr().out
    assert lines in printed
    assert shown in printed.partition("rows:")[0]
    assert "not certain: common names of sources and targets; `{{ " in printed
    assert "rows that training would refuse: 0" in printed


def test_inspect_names_a_number_beside_a_single_text(capsys):
    load([{"text": "t", "n": 1, "id": 2}])
    assert main(["inspect", "rows.jsonl"]) == 0
    assert "  candidate: text\n  candidate: {{ n }}\n" in capsys.readouterr().out


def test_inspect_reads_as_training_does(capsys):
    """Texts that look like numbers and dates are proposed as the texts that they are."""
    Path("rows.csv").write_text("question,answer\nq,02100\nr,00123\n")
    load([{"question": "q", "answer": "2024-01-05"}])
    for name, text in (("rows.csv", "02100"), ("rows.jsonl", "2024-01-05")):
        assert main(["inspect", name]) == 0
        printed = capsys.readouterr().out
        assert "source_column: question\ntarget_column: answer\n" in printed
        assert text in printed.partition("rows:")[0]
