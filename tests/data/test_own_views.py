"""Views that are no part of the conversation: the conversation is learned, other columns are the views."""

import copy
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.findings import FINDING_COLUMNS
from llm_jepa.data.row_keys import row_keys
from llm_jepa.data.rows import to_rows
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.probe import held_out_view_ids
from llm_jepa.planning.workload import arm_names, with_arm
from llm_jepa.recipe import Recipe, build_recipe
from tests.data.preparing import CHAT, learned
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

OWN_VIEWS = {"source_view_column": "text", "target_view_column": "code"}
MAPPING = ColumnMapping(**OWN_VIEWS)
ROWS = [{"messages": CHAT, "text": f"view {pair['source']}", "code": pair["target"], "id": 7} for pair in PAIRS]
SOURCE_HEADER, TARGET_HEADER = "<|im_start|>user\n", "<|im_start|>assistant\n"


def ids(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def one_row(example: dict, mapping: ColumnMapping = MAPPING, has_chat_template: bool = True) -> dict:
    [row] = to_rows(Dataset.from_list([example]), mapping, has_chat_template)
    return row


def test_a_row_keeps_the_turns_beside_the_views():
    """The turns are what evaluation asks and expects."""
    assert one_row(ROWS[0]) == {
        "prompt": CHAT[:3], "completion": CHAT[3:], "source": "digits", "target": "[0-9]",
        "source_view": "view lines with a number", "target_view": ".*[0-9].*", "row_index": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "conversation",
    [
        {"prompt": CHAT[:3], "completion": CHAT[3:]},
        {"prompt": "digits", "completion": "[0-9]"},
        {"question": "digits", "answer": "[0-9]"},
    ],
)
def test_every_form_of_a_conversation_can_have_them_by_template_and_nested_field_too(conversation):
    named = {"source_column": "question", "target_column": "answer"} if "question" in conversation else {}
    mapping = ColumnMapping(**named, source_view_column="{{ a }}, {{ x.n }}", target_view_column="x.code")
    row = one_row({**conversation, "a": "first", "x": {"code": "c", "n": 3}}, mapping)
    assert (row["source"], row["target"]) == ("digits", "[0-9]")
    assert (row["source_view"], row["target_view"]) == ("first, 3", "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "Row 0: column 'text' is null or empty."),
        ({"code": " "}, "Row 0: the target view is empty."),
        ({"code": 7}, "Row 0: column 'code' holds int, not a string."),
    ],
)
def test_a_view_that_is_not_there_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        one_row(ROWS[0] | change)


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_come_from_the_conversation_and_views_from_the_columns(prepare, streaming):
    dataset = Dataset.from_list(ROWS)
    [row, *_] = prepare(dataset.to_iterable_dataset() if streaming else dataset, **OWN_VIEWS)
    assert learned(row) == "[0-9]<|im_end|>\n"
    assert tiny_tokenizer().decode(row["input_ids"]).count("letters") == 1
    assert row["source_ids"] == ids(SOURCE_HEADER + "view lines with a number")
    assert row["target_ids"] == ids(TARGET_HEADER + ".*[0-9].*")
    assert set(row) == {
        "input_ids", "labels", "source_ids", "source_start", "target_ids", "target_start", "row_index",
        *FINDING_COLUMNS,
    }  # fmt: skip


def test_a_plain_conversation_has_plain_views(prepare):
    rows = [{"prompt": "digits: ", "completion": "[0-9]", "text": "any digit", "code": "7"}]
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = None
    [row] = prepare(rows, tokenizer=tokenizer, **OWN_VIEWS)
    assert (row["source_ids"], row["target_ids"]) == (ids("any digit"), ids("7"))


def test_without_the_term_rows_and_labels_are_those_of_the_conversation_alone(prepare):
    alone = prepare([{"messages": CHAT}] * 2, jepa_weight=0.0)
    with_views = prepare(ROWS[:2], jepa_weight=0.0, **OWN_VIEWS)
    for name in ("input_ids", "labels", "row_index"):
        assert with_views[name] == alone[name]


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    settings = {"model_name_or_path": "none", "dataset_name": str(tmp_path / "rows.jsonl"), "bf16": False}
    splits = {"dataset_test_split": "train", "output_dir": str(tmp_path / "out"), "report_to": "none", "use_cpu": True}
    return build_recipe(Path("recipe.yaml"), settings | splits | OWN_VIEWS)


def test_evaluation_needs_the_conversation_alone(recipe):
    """A test split often lacks the columns of the views."""
    rows = [{"messages": row["messages"]} for row in ROWS]
    Path(recipe.settings["dataset_name"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in load_rows(recipe, tiny_tokenizer()):
        assert (row.prompt, row.gold) == (CHAT[:3], "[0-9]")
    assert len({*row_keys(recipe.script, "train", ColumnMapping.from_args(recipe.training), "text")}) == 1


def test_the_probe_looks_at_the_views(recipe):
    sources, targets = held_out_view_ids(recipe, tiny_tokenizer(), None)
    assert sources == [ids(SOURCE_HEADER + row["text"]) for row in ROWS]
    assert targets == [ids(TARGET_HEADER + row["code"]) for row in ROWS]


def test_a_plan_compares_no_arm_whose_source_is_a_prefix(recipe):
    assert arm_names(recipe, is_tokenised=False) == ["SFT", "alone", "tube"]
    assert with_arm(recipe, "tube").training.source_view_column is None


def test_both_layouts_give_the_term_of_views_encoded_apart(tmp_path):
    """One step: the mean over rows of 1 - cos between last hidden states, with no predictor token."""
    logs = []
    for layout in ("rows", "packed"):
        args = JEPAConfig(
            str(tmp_path), jepa_layout=layout, num_predictor_tokens=0, per_device_train_batch_size=len(ROWS),
            max_steps=1, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
            disable_tqdm=True, **OWN_VIEWS,
        )  # fmt: skip
        data = Dataset.from_list(ROWS)
        trainer = JEPATrainer(tiny_llama(), args, train_dataset=data, processing_class=tiny_tokenizer())
        trainer.train()
        logs.append(trainer.state.log_history[0])
    expected = []
    model = tiny_llama().base_model.eval()
    for row in ROWS:
        texts = (SOURCE_HEADER + row["text"], TARGET_HEADER + row["code"])
        with torch.no_grad():
            source_D, target_D = (model(torch.tensor([ids(text)])).last_hidden_state[0, -1] for text in texts)
        expected.append(1 - torch.cosine_similarity(source_D, target_D, dim=0).item())
    for log in logs:
        assert log["jepa_loss"] == pytest.approx(sum(expected) / len(expected), rel=1e-4)
        assert log["lm_loss"] == pytest.approx(logs[0]["lm_loss"], rel=1e-5)
