"""A recipe with `answer_form: tokens` trains a token VLM, and `llm-jepa eval` chooses by likelihood and generates."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from llm_jepa.cli import main as command
from llm_jepa.evaluation.vision import evaluate_vision
from llm_jepa.train import main as train
from llm_jepa.vision.recipe import parse_any_recipe
from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_model import TokenVLM
from tests.vision.tiny_parts import colour_rows, saved

CANDIDATES = ["sun", "green", "red", "blue", "black", "white"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A recipe of VL-JEPA, and a run of it with `answer_form: tokens` on cached features."""
    directory = tmp_path_factory.mktemp("tokens")
    rows = colour_rows(directory)
    for i, row in enumerate(rows):
        others = [name for name in CANDIDATES if name != row["answer"]]
        row["candidates"] = [others[i % 5], row["answer"], others[(i + 2) % 5]]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "vision_encoder": saved("dinov2"), "language_model": saved("qwen3"), "text_encoder": "./no/such",
        "predictor_layers": 2, "embedding_size": 12, "max_steps": 30, "per_device_train_batch_size": 6,
        "learning_rate": 1e-2, "save_strategy": "no", "disable_tqdm": True, "dataset_test_split": "train",
        "dataset_name": str(directory / "rows.jsonl"), "output_dir": str(directory / "run"),
        "feature_cache": str(directory / "features"), "max_answer_tokens": 16, "candidates_column": "candidates",
    }  # fmt: skip
    (directory / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train([str(directory / "recipe.yaml"), "--answer_form", "tokens"])
    return directory


def recipe(run: Path, *overrides: str):
    return parse_any_recipe([str(run / "recipe.yaml"), "--answer_form", "tokens", *overrides])


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]


def log_prob(model: TokenVLM, row: dict, text: str) -> float:
    (inputs,) = model.read_batches([row["image"]], [row["question"]], batch_size=1)
    ids, mask = model.processor.answers([text], 512)
    with torch.no_grad():
        return -float(answer_loss(model(**inputs, answer_ids=ids, answer_mask=mask).logits_NAV, ids, mask)[0])


def test_the_likeliest_candidate_is_chosen_and_the_greedy_text_compared(run):
    """To the float16 of cached features. It has learnt the colours, so that some texts are right."""
    model = TokenVLM.from_pretrained(run / "run").eval()
    rows = rows_of(run)
    result = evaluate_vision(recipe(run), batch_size=5)
    for row, one in zip(rows, result.predictions, strict=True):
        scores = {text: log_prob(model, row, text) for text in row["candidates"]}
        assert one.score == pytest.approx(max(scores.values()), abs=0.05)
        assert scores[one.prediction] == pytest.approx(max(scores.values()), abs=0.05)
        assert one.rank == sum(score >= scores[row["answer"]] for score in scores.values())
    texts = model.answer([row["image"] for row in rows], [row["question"] for row in rows])
    assert [one.generated for one in result.predictions] == texts
    hits = sum(text == row["answer"] for text, row in zip(texts, rows, strict=True))
    assert result.scores["exact_match"].hits == hits > 0
    assert result.chance == pytest.approx(1 / 3)


def test_labels_and_all_answers_stand_in_the_place_of_candidates(run):
    labels = evaluate_vision(recipe(run), [*CANDIDATES, "purple"])
    assert {one.num_candidates for one in labels.predictions} == {7}
    answers = evaluate_vision(recipe(run, "--candidates_column", "null"))
    assert {one.num_candidates for one in answers.predictions} == {6}


def test_the_command_prints_both_scores_and_no_retrieval(run, capsys):
    assert command(["eval", str(run / "run"), "--max_rows", "6"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"generated text is the answer .* %", said)
    assert re.search(r"accuracy .* %", said)
    assert "answer to image" not in said
    scores = json.loads((run / "run" / "scores-tuned.json").read_text())
    assert scores["scores"].keys() == {"accuracy", "exact_match", "most_frequent"}
    assert "image_to_answer" not in scores


def test_a_run_of_the_other_form_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        command(["eval", str(run / "recipe.yaml")])
    assert "is of the type token_vlm, and `answer_form: embedding` needs one of the type vl_jepa" in (
        capsys.readouterr().err
    )
