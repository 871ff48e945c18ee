"""`llm-jepa latency` of runs on pictures computes every stage of every row by turns, and an answer is their sum."""

import json
from pathlib import Path

import pytest
import yaml

from llm_jepa.cli import main as command
from llm_jepa.evaluation import vision_latency
from llm_jepa.evaluation.interleaving import interleave
from llm_jepa.train import main as train
from tests.vision.tiny_parts import COLOURS, colour_rows, saved

PICTURE = ["picture", "vision_encoder"]
ARMS = {
    "embedding": [],
    "tokens": ["--answer_form", "tokens"],
    "blind": ["--answer_form", "tokens", "--inputs", "question"],
}
STAGES = {
    "embedding": [*PICTURE, "predictor", "ranking", "encoding_and_ranking"],
    "tokens": [*PICTURE, "reading", "likelihood", "generation"],
    "blind": ["reading", "likelihood", "generation"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run of each arm, of few steps."""
    directory = tmp_path_factory.mktemp("latency")
    rows = [row | {"candidates": [*COLOURS]} for row in colour_rows(directory)]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 2, "embedding_size": 12, "max_steps": 4, "per_device_train_batch_size": 6,
        "learning_rate": 1e-2, "save_strategy": "no", "disable_tqdm": True, "dataset_test_split": "train",
        "dataset_name": str(directory / "rows.jsonl"), "output_dir": "unused", "candidates_column": "candidates",
        "max_answer_tokens": 16,
    }  # fmt: skip
    (directory / "recipe.yaml").write_text(yaml.safe_dump(settings))
    for name, overrides in ARMS.items():
        train([str(directory / "recipe.yaml"), *overrides, "--output_dir", str(directory / name)])
    return directory


@pytest.mark.parametrize("arm", ARMS)
def test_every_stage_of_every_row_takes_its_turn(arm, runs, monkeypatch, capsys):
    """The first row is computed once before, and not counted."""
    calls = []

    def recorded(ways, requests, **options):
        def of(name):
            return lambda request: calls.append((name, request)) or ways[name](request)

        return interleave({name: of(name) for name in ways}, requests, **options)

    monkeypatch.setattr(vision_latency, "interleave", recorded)
    assert command(["latency", str(runs / arm), "--max_rows", "3"]) == 0
    names = [("run", stage) for stage in STAGES[arm]]
    turns = [(name, row) for row in range(3) for name in names[row:] + names[:row]]
    assert calls == [*((name, 0) for name in names), *turns]
    said = capsys.readouterr().out
    for _, stage in names:
        assert stage in said


@pytest.mark.parametrize("arm", ARMS)
def test_an_answer_takes_the_sum_of_its_stages_and_is_that_of_eval(arm, runs, tmp_path, capsys):
    output = tmp_path / "a" / "latency.json"
    assert command(["latency", str(runs / arm), "--max_rows", "6", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert (report["requests"], report["candidates"], report["predictor_layers"]) == (6, 6, 2)
    for name, one in report["answers"].items():
        assert one["mean_seconds"] == pytest.approx(
            sum(report["stages"][stage]["mean_seconds"] for stage in one["stages"])
        ), name
        low, middle, high = one["seconds_per_answer"]
        assert 0 < low <= middle <= high
    assert command(["eval", str(runs / arm), "--max_rows", "6"]) == 0
    scores = json.loads((runs / arm / "scores-tuned.json").read_text())["scores"]
    right = {name: one["right"] for name, one in report["answers"].items()}
    accuracy = scores["accuracy"]["hits"]
    if arm == "embedding":
        assert right == {"candidates cached": accuracy, "candidates encoded": accuracy}
    else:
        assert right == {"likeliest candidate": accuracy, "generated": scores["exact_match"]["hits"]}


def test_candidates_may_be_labels_and_weights_of_another_precision(runs, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join([*COLOURS, "purple", "grey"]))
    output = tmp_path / "latency.json"
    options = ["--max_rows", "2", "--labels", str(labels), "--dtype", "bfloat16", "--output", str(output)]
    for arm in ("embedding", "tokens"):
        assert command(["latency", str(runs / arm), *options]) == 0
        report = json.loads(output.read_text())
        assert (report["candidates"], report["dtype"]) == (8, "bfloat16")
    no_candidates = ["--candidates_column", "null", "--max_rows", "2", "--output", str(output)]
    assert command(["latency", str(runs / "embedding"), *no_candidates]) == 0
    assert json.loads(output.read_text())["candidates"] == len(COLOURS)  # the answers of the whole split


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shortlist", "2"], "`--shortlist` has no effect on a run of VL-JEPA"),
        (["--num_drafted_tokens", "2"], "`--num_drafted_tokens` has no effect on a run of VL-JEPA"),
        (["--max_new_tokens", "2"], "`--max_new_tokens` has no effect on a run of VL-JEPA, which writes no text"),
        (["--labels", "no/such"], "There is no file `no/such`"),
    ],
)
def test_what_has_no_effect_is_refused(options, message, runs, capsys):
    with pytest.raises(SystemExit):
        command(["latency", str(runs / "embedding"), *options])
    assert message in capsys.readouterr().err


def test_a_recipe_that_was_not_trained_is_refused(runs, capsys):
    with pytest.raises(SystemExit):
        command(["latency", str(runs / "recipe.yaml")])
    assert "`output_dir: unused` holds no trained model" in capsys.readouterr().err
