"""Plain text, without pairs: one column of strings, and nothing else of the rows."""

import pytest
from datasets import Dataset

from tests.tiny import PAIRS

TEXTS = [pair["source"] for pair in PAIRS]
FORMS = {
    "sft": {"jepa_weight": 0.0},
    "tube": {"jepa_objective": "tube"},
    "next_latent": {"jepa_objective": "next_latent"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["text", "prompt", "labels"])
def test_of_rows_of_text_the_text_alone_is_learned(column, streaming, form, prepare):
    """TRL takes `labels`, `prompt` and `chat_template_kwargs` for its own."""
    others = {"labels": [1, 2], "prompt": "p", "chat_template_kwargs": None, "id": 7}
    rows = Dataset.from_list([others | {column: text} for text in TEXTS])
    rows = rows.to_iterable_dataset() if streaming else rows
    found = list(prepare(rows, dataset_text_field=column, **FORMS[form]))
    assert found == list(prepare([{"text": text} for text in TEXTS], **FORMS[form]))
    assert all(row["labels"] == row["input_ids"] for row in found)


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"id": 1, "q": {"text": "a"}}, "q.text", r"`dataset_text_field: q\.text` is not a column.*\['id', 'q'\]"),
        ({"body": "a"}, "text", r"`dataset_text_field: text` is not a column.*\['body'\]"),
        ({"body": ["a"]}, "body", "Row 0: `dataset_text_field: body` holds list, not a string"),
        ({"body": None}, "body", "Row 0: `dataset_text_field: body` holds NoneType, not a string"),
        ({"body": " \n"}, "body", r"Row 0: `dataset_text_field: body` is blank.*Leave the row out"),
    ],
)
@pytest.mark.parametrize("options", [{"jepa_weight": 0.0}, {"jepa_objective": "tube"}], ids=["sft", "tube"])
def test_a_text_must_be_a_column_of_strings(row, field, message, options, prepare):
    """TRL reads a text by the name of a column alone, and ends in a KeyError otherwise."""
    with pytest.raises(ValueError, match=message):
        prepare([row], dataset_text_field=field, **options)


def test_text_without_pairs_is_for_the_lm_only_arm(prepare, sft_trainer):
    text = [{"text": pair["source"]} for pair in PAIRS]
    ours = prepare(text, jepa_weight=0.0)
    theirs = sft_trainer._prepare_dataset(
        Dataset.from_list(text), sft_trainer.processing_class, sft_trainer.args, False, None, "train"
    )
    assert ours["input_ids"] == theirs["input_ids"]
    assert ours["labels"] == theirs["labels"] == theirs["input_ids"]
    with pytest.raises(ValueError, match=r"has the columns \['text'\]"):
        prepare(text)


def test_text_obeys_max_length_and_takes_no_system_prompt(prepare):
    text = [{"text": "a" * n} for n in (5, 90, 6)]
    assert prepare(text, jepa_weight=0.0, max_length=80)["row_index"][:] == [0, 2]
    with pytest.raises(ValueError, match="Row 1: the row has 91 tokens"):
        prepare(text, jepa_weight=0.0, max_length=80, long_rows="error")
    for options in ({"system_prompt": "Be brief."}, {"chat_template_kwargs": {"date_string": "today"}}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` has no effect on plain text"):
            prepare(text, jepa_weight=0.0, **options)
