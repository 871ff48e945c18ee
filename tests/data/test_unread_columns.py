"""Columns that no text reads stand in nobody's way."""

import pytest
from datasets import Dataset, Image

from llm_jepa import JEPATrainer
from tests.data.preparing import CHAT, PAIR_COLUMNS, TOKENISED, config
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

FORMS = {
    "pairs": (PAIRS[:2], PAIR_COLUMNS),
    "messages": ([{"messages": CHAT, "history": "h"}] * 2, {}),
    "tokenised": ([TOKENISED] * 2, {}),
    "text": ([{"text": "abc"}] * 2, {"jepa_weight": 0.0}),
}


def new_trainer(rows, **options) -> JEPATrainer:
    """A trainer of these rows, which its evaluation has too."""
    return JEPATrainer(tiny_llama(), config(**options), None, rows, rows, processing_class=tiny_tokenizer())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("column", ["image", "images"])
@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_are_named_as_not_read_and_not_opened(form, column, streaming, caplog):
    """TRL would say that they need a vision model. The file is not there."""
    rows, options = FORMS[form]
    rows = Dataset.from_list(rows)
    pictures = rows.add_column(column, ["gone.png"] * 2).cast_column(column, Image())
    if streaming:
        rows, pictures = rows.to_iterable_dataset(), pictures.to_iterable_dataset()
    trainer, expected = new_trainer(pictures, **options), new_trainer(rows, **options)
    assert list(trainer.train_dataset) == list(expected.train_dataset)
    assert list(trainer.eval_dataset["labels"]) == list(expected.eval_dataset["labels"])
    said = [record.message for record in caplog.records if f"`{column}`" in record.message]
    assert [message.split()[2] for message in said] == ["train", "eval"]
    assert all("not read" in message for message in said)
