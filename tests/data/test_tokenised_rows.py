"""Pre-tokenised rows: taken as they are, checked row by row, and no option of text on them."""

import pytest
from datasets import Dataset, Features, List, Value

from tests.data.preparing import CHAT, PAIR_COLUMNS, TOKENISED, learned, new_trainer
from tests.templates import SHIPPED, with_template
from tests.tiny import PAIRS


def test_pre_tokenised_rows_stay_as_they_are(prepare):
    (row,) = prepare([TOKENISED])
    assert row == TOKENISED | {"source_start": 0, "target_start": 0, "row_index": 0}
    (row,) = prepare([TOKENISED | {"target_start": 1}])
    assert (row["source_start"], row["target_start"]) == (0, 1)


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow"])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("row", [TOKENISED, {"messages": CHAT}], ids=["tokenised", "messages"])
def test_rows_may_be_formatted(kind, streaming, row, prepare):
    """As tensors, arrays or tables, by `with_format`."""
    rows = Dataset.from_list([row, row])
    rows = rows.to_iterable_dataset() if streaming else rows
    assert list(prepare(rows.with_format(kind))) == list(prepare(rows))


def test_lists_may_have_a_fixed_size():
    features = Features({name: List(Value("int32"), length=len(ids)) for name, ids in TOKENISED.items()})
    trainer = new_trainer([TOKENISED] * 2, features)
    assert trainer.train_dataset["labels"] == [TOKENISED["labels"]] * 2


@pytest.mark.parametrize("missing", ["labels", "source_ids", "target_ids"])
def test_a_missing_column_of_pre_tokenised_rows_is_named(missing, prepare):
    rows = [{name: ids for name, ids in TOKENISED.items() if name != missing}]
    with pytest.raises(ValueError, match=rf"\['{missing}'\] are missing among"):
        prepare(rows)


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_the_lm_only_arm_needs_no_views_of_pre_tokenised_rows(source_view, prepare):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}]
    (row,) = prepare(rows, jepa_weight=0.0, jepa_source_view=source_view)
    assert (row["input_ids"], row["labels"], row["row_index"]) == ([5, 6, 7], [-100, 6, 7], 0)
    with pytest.raises(
        ValueError, match=r"\['labels'\] are missing among|\['labels', 'source_ids', 'target_ids'\] are missing"
    ):
        prepare([{"input_ids": [5, 6, 7]}], jepa_weight=0.0)


SPANS = {"source_span": [1, 2], "target_span": [2, 4]}


def test_pre_tokenised_rows_of_several_objectives_need_the_columns_of_each(prepare):
    (row,) = prepare([TOKENISED | SPANS], jepa_objective=["pair", "tube"])
    assert row == TOKENISED | SPANS | {"source_start": 0, "target_start": 0, "row_index": 0}
    with pytest.raises(ValueError, match=r"\['source_span', 'target_span'\] are missing among"):
        prepare([TOKENISED], jepa_objective=["pair", "tube"])
    bad = {"target_span": [1, 4]}
    with pytest.raises(ValueError, match="Row 1: `source_span` is "):
        prepare([TOKENISED | SPANS, TOKENISED | SPANS | bad], jepa_objective=["pair", "tube"])


def test_pre_tokenised_rows_of_a_conversation_objective_need_tokens_and_labels_alone(prepare, tmp_path):
    (tmp_path / "own.py").write_text("class Mine:\n    row_needs = 'conversation'\n")
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}]
    (row,) = prepare(rows, jepa_objective=f"{tmp_path / 'own.py'}:Mine")
    assert row == rows[0] | {"row_index": 0}


BAD_TOKENS = [
    ({"source_ids": []}, {}, "`source_ids` is empty"),
    ({"target_ids": []}, {}, "`target_ids` is empty"),
    ({"target_ids": None}, {}, "`target_ids` is empty"),
    ({"source_start": 2}, {}, "`source_start` is 2; allowed are 0 to 1"),
    ({"target_start": -1}, {}, "`target_start` is -1; allowed are 0 to 1"),
    ({"source_ids": [6, 5]}, {"jepa_source_view": "prefix"}, "`source_ids` must be the first tokens of `input_ids`"),
    ({"source_ids": [5, 6, 7, 8, 9]}, {"jepa_source_view": "prefix"}, "must be the first tokens of `input_ids`"),
    ({"labels": [7, 8]}, {}, "there are 4 `input_ids` and 2 `labels`; both must have one length"),
    ({"labels": [5, -100, -100, -100]}, {}, "the row has nothing to learn"),
    ({"input_ids": [], "labels": []}, {}, "the row has nothing to learn"),
]


@pytest.mark.parametrize(("change", "options", "message"), BAD_TOKENS, ids=lambda value: str(value)[:50])
def test_a_bad_pre_tokenised_row_is_named(change, options, message, prepare):
    columns = {"source_start": 0, "target_start": 0}
    with pytest.raises(ValueError, match=f"Row 1: .*{message}"):
        prepare([TOKENISED | columns, TOKENISED | columns | change], **options)


@pytest.mark.parametrize(
    "options",
    [PAIR_COLUMNS, {"system_prompt": "Be brief."}, {"chat_template_kwargs": {"enable_thinking": False}}],
    ids=["columns", "system prompt", "template"],
)
def test_settings_of_text_have_no_effect_on_tokens(options, prepare):
    with pytest.raises(ValueError, match="have no effect on pre-tokenised rows"):
        prepare([TOKENISED], **options)


def test_what_the_chat_template_is_given_is_in_the_conversation(prepare):
    """Qwen3's empty thought: part of the prompt with `enable_thinking: false`, else learnt with the answer."""
    tokenizer = with_template(SHIPPED["qwen3"])
    thinking = prepare(PAIRS, tokenizer)[0]
    plain = prepare(PAIRS, tokenizer, chat_template_kwargs={"enable_thinking": False})[0]
    assert thinking["input_ids"] == plain["input_ids"]
    assert learned(thinking) == "<think>\n\n</think>\n\n" + learned(plain)
    assert learned(plain) == PAIRS[0]["target"] + "<|im_end|>\n"
