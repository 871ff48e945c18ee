"""Rows that are longer than `max_length`: dropped and counted, or refused, in data sets and in streams."""

import logging

import pytest
from datasets import Dataset

from tests.data.preparing import LONG, TOKENISED, learned
from tests.tiny import PAIRS


@pytest.mark.parametrize("options", [{}, {"jepa_weight": 0.0}, {"jepa_source_view": "prefix"}])
def test_long_rows_are_dropped_and_counted_the_same_in_every_arm(options, prepare, caplog):
    with caplog.at_level(logging.WARNING, "llm_jepa"):
        kept = prepare(LONG, max_length=80, **options)
    assert kept["row_index"][:] == [0, 2, 4]
    assert "Dropped 2 of 5 rows of the train data: longer than max_length 80." in caplog.text
    assert [learned(row) for row in kept] == [f"{'b' * n}<|im_end|>\n" for n in (3, 4, 5)]


def test_nothing_is_dropped_or_said_when_all_rows_fit(prepare, caplog):
    with caplog.at_level(logging.WARNING, "llm_jepa"):
        assert len(prepare(LONG, max_length=512)) == len(prepare(LONG, max_length=None)) == 5
    assert "Dropped" not in caplog.text


@pytest.mark.parametrize("extra", [0, -1])
def test_a_row_may_be_as_long_as_max_length_and_no_longer(extra, prepare):
    tokens = len(prepare(PAIRS[:1])[0]["input_ids"])
    if extra == 0:
        assert len(prepare(PAIRS[:1], max_length=tokens)) == 1
        return
    with pytest.raises(ValueError, match=f"All 1 rows of the train data are longer than `max_length: {tokens - 1}`"):
        prepare(PAIRS[:1], max_length=tokens - 1)


def test_a_view_is_counted_with_its_predictor_tokens(prepare):
    rows = [TOKENISED | {"source_ids": [5] * 6}]
    assert len(prepare(rows, max_length=8, num_predictor_tokens=2)) == 1
    with pytest.raises(ValueError, match="All 1 rows"):
        prepare(rows, max_length=8, num_predictor_tokens=3)


def test_long_rows_error_names_the_row_and_its_tokens(prepare):
    tokens = len(prepare(LONG)[1]["input_ids"])
    with pytest.raises(ValueError, match=f"Row 1: the row has {tokens} tokens; `max_length` is 80. Raise it"):
        prepare(LONG, max_length=80, long_rows="error")


def test_a_stream_drops_long_rows_too_and_tells_of_the_first(prepare, caplog):
    tokens = len(prepare(LONG)[1]["input_ids"])
    stream = prepare(Dataset.from_list(LONG).to_iterable_dataset(), max_length=80)
    for _ in range(2):
        assert [row["row_index"] for row in stream] == [0, 2, 4]
    (said,) = [record.getMessage() for record in caplog.records if record.name == "llm_jepa.data.preparation"]
    assert said.startswith(f"Dropped row 1 of the train data: it has {tokens} tokens, max_length is 80. Further rows")
