"""What `llm-jepa push` publishes of a run's scores, on a Hub on loopback."""

import json
import os

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub import parse_eval_result_entries as parse_entries

from llm_jepa.hub.push import push
from tests.hub.hub_run import REPO, card, said
from tests.hub.hub_server import BASE, DATA


@pytest.mark.parametrize("key", ["rows_digest", "prompts_digest", "precision"])
def test_the_card_tells_what_is_left_out_and_compares_like_with_like_alone(hub, run, key):
    """The base was scored on another sample of as many rows, by other prompts or in another precision."""
    for checkpoint in ("base", "tuned"):
        path = run / f"scores-{checkpoint}.json"
        changed = {key: checkpoint, "left_out": {"the gold regex cannot be read": 2}}
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    text = card(hub.model(REPO)).text
    left_out = "2 rows are left out of `equivalent`, `equivalent_nontrivial`: the gold regex cannot be read (2)."
    assert left_out in text
    assert "| tuned |" in text
    assert "| base |" not in text


@pytest.mark.parametrize("rows_trained_on", [0, 2])
def test_scores_of_rows_that_were_trained_on_are_published_with_a_word(hub, run, caplog, rows_trained_on):
    path = run / "scores-tuned.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows_trained_on": rows_trained_on}))
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    (entry,) = parse_entries(yaml.safe_load(hub.model(REPO).files[".eval_results/llm-jepa.yaml"]))
    in_text = "The run trained on 2 of the 8 evaluated rows." in card(hub.model(REPO)).text
    in_notes = entry.notes.endswith("; the run trained on 2 of the evaluated rows")
    warned = [f"{REPO}: the run trained on 2 of the rows that its scores are of" in line for line in said(caplog)]
    assert (in_text, in_notes, warned) == ((True, True, [True]) if rows_trained_on else (False, False, []))


def test_results_are_in_both_of_the_hubs_forms(hub, run):
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    files = hub.model(REPO).files
    by_metric = {result.metric_type: result for result in card(hub.model(REPO)).data.eval_results}
    assert set(by_metric) == {
        "strict", "prefix", "contains", "stopped", "capped", "equivalent", "equivalent_nontrivial",
    }  # fmt: skip
    assert by_metric["equivalent"].metric_value == 37.5
    assert (by_metric["equivalent"].dataset_type, by_metric["equivalent"].dataset_split) == (DATA, "test")
    (entry,) = parse_entries(yaml.safe_load(files[".eval_results/llm-jepa.yaml"]))
    assert (entry.dataset_id, entry.task_id, entry.value) == (DATA, "default", 37.5)
    assert entry.notes.startswith("equivalent, % of 8 rows of `test`")


def test_scores_older_than_the_weights_are_not_quoted(hub, run):
    os.utime(run / "adapter_model.safetensors")
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    assert "## Results" not in card(hub.model(REPO)).text
    assert card(hub.model(REPO)).data.eval_results is None
    assert ".eval_results/llm-jepa.yaml" not in hub.model(REPO).files


def test_results_that_no_longer_hold_are_removed(hub, run):
    """The owner's own entry in `model-index` stays."""
    own = EvalResult("text-generation", "team/other", "other", "bleu", 12.0)
    metadata = ModelCardData(model_name="adapter", eval_results=[own])
    hub.add(REPO, {"README.md": f"---\n{metadata}\n---\n".encode()}, private=True)
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    assert len(card(hub.model(REPO)).data.eval_results) == 8
    (run / "scores-tuned.json").unlink()
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    assert ".eval_results/llm-jepa.yaml" not in hub.model(REPO).files
    assert [result.metric_type for result in card(hub.model(REPO)).data.eval_results] == ["bleu"]
