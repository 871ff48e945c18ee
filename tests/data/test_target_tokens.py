"""The draft vocabulary: stop tokens first, then the tokens with labels by falling count."""

from datasets import Dataset

from llm_jepa.data.target_tokens import ranked_target_tokens


def test_tokens_are_ranked_by_their_labels_and_equal_counts_by_their_ids(monkeypatch):
    monkeypatch.setattr("llm_jepa.data.target_tokens.ROWS_AT_ONCE", 2)  # counts are added over batches
    rows = [
        {"input_ids": [9, 9, 4, 7], "labels": [-100, -100, 4, 7]},
        {"input_ids": [9, 7, 3], "labels": [-100, 7, 3]},
        {"input_ids": [9, 7], "labels": [-100, -100]},
        {"input_ids": [11, 2], "labels": [11, 2]},
    ]
    # counts: 7 twice; 2, 3, 4 and 11 once; 9 never
    assert ranked_target_tokens(Dataset.from_list(rows), [2, 5]) == [2, 5, 7, 3, 4, 11]


def test_a_stream_is_not_counted():
    stream = Dataset.from_list([{"labels": [1]}]).to_iterable_dataset()
    assert ranked_target_tokens(stream, [2]) is None
