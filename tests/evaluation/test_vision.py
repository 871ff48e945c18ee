"""`llm-jepa eval` of a VL-JEPA run: its ranks are those of a loop over rows; what has no effect is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from llm_jepa.cli import main as command
from llm_jepa.evaluation.held_out_rows import sample_indices
from llm_jepa.evaluation.vision import evaluate_vision
from llm_jepa.train import main as train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import parse_any_recipe
from tests.vision.tiny_parts import COLOURS, colour_rows, saved

CANDIDATES = ["sun", "green", "red", "blue", "black", "white"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps; each row has three candidates."""
    directory = tmp_path_factory.mktemp("eval")
    rows = colour_rows(directory)
    for i, row in enumerate(rows):
        others = [name for name in CANDIDATES if name != row["answer"]]
        row["candidates"] = [others[i % 5], row["answer"], others[(i + 2) % 5]]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 2, "embedding_size": 12, "max_steps": 4, "per_device_train_batch_size": 6,
        "learning_rate": 1e-3, "save_strategy": "no", "disable_tqdm": True, "dataset_test_split": "train",
        "dataset_name": str(directory / "rows.jsonl"), "output_dir": str(directory / "run"),
    }  # fmt: skip
    (directory / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train([str(directory / "recipe.yaml")])
    return directory


def recipe(run: Path, *overrides: str):
    return parse_any_recipe([str(run / "recipe.yaml"), *overrides])


def slow_ranks(run: Path, rows: list[dict], candidates: list[list[str]]) -> list[int]:
    """How many candidates are as near as the right one, itself included, row by row."""
    model = VLJEPAModel.from_pretrained(run / "run").eval()
    ranks = []
    for row, texts in zip(rows, candidates, strict=True):
        prediction = model.predict([row["image"]], [row["question"]])[0]
        score = {text: float(cosine_similarity(prediction, model.encode_text([text])[0], 0)) for text in texts}
        ranks.append(sum(score[text] >= score[row["answer"]] - 1e-6 for text in texts))
    return ranks


def rows_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]


def test_open_vocabulary_is_ranked_among_all_answers(run):
    rows = rows_of(run)
    result = evaluate_vision(recipe(run))
    expected = slow_ranks(run, rows, [list(COLOURS)] * len(rows))
    assert [one.rank for one in result.predictions] == expected
    assert result.scores["accuracy"].hits == sum(rank == 1 for rank in expected)
    assert all((one.prediction == one.gold) == (one.rank == 1) for one in result.predictions)
    assert result.image_to_answer["recall_at_1"] == pytest.approx(result.scores["accuracy"].fraction)
    assert (result.chance, result.scores["most_frequent"].hits) == (pytest.approx(1 / 6), 2)


def test_questions_are_ranked_among_their_own_candidates(run):
    rows = rows_of(run)
    result = evaluate_vision(recipe(run, "--candidates_column", "candidates"))
    assert [one.rank for one in result.predictions] == slow_ranks(run, rows, [row["candidates"] for row in rows])
    assert {one.num_candidates for one in result.predictions} == {3}
    assert all(one.prediction in row["candidates"] for one, row in zip(result.predictions, rows, strict=True))
    assert result.chance == pytest.approx(1 / 3)


def test_labels_stand_in_the_place_of_candidates(run):
    labels = [*COLOURS, "purple", "grey"]
    spaced = [f"{label} " for label in labels]
    result = evaluate_vision(recipe(run, "--candidates_column", "candidates"), spaced)
    assert [one.rank for one in result.predictions] == slow_ranks(run, rows_of(run), [labels] * 12)
    with pytest.raises(ValueError, match="1 of 6 answers are not among the labels, the first: 'sun'"):
        evaluate_vision(recipe(run), labels[:5])


@pytest.mark.parametrize(
    ("key", "value", "was"),
    [("inputs", "question", "image_and_question"), ("num_frames", 2, 1), ("image_size", 32, 16)],
)
def test_what_the_model_reads_cannot_be_overridden(run, key, value, was):
    with pytest.raises(ValueError, match=f"The run .* was made with `{key}: {was}`; the recipe says {value}."):
        evaluate_vision(recipe(run, f"--{key}", str(value)))
    same = evaluate_vision(recipe(run, f"--{key}", str(was)), max_rows=1)
    assert len(same.predictions) == 1


def test_a_sample_is_always_the_same_rows(run):
    """They choose from the answers of the whole split."""
    result = evaluate_vision(recipe(run), max_rows=3)
    assert [one.row_index for one in result.predictions] == sample_indices(12, 3)
    assert len({one.gold for one in result.predictions}) < len(COLOURS)
    whole = {one.row_index: one for one in evaluate_vision(recipe(run)).predictions}
    assert [one.rank for one in result.predictions] == [whole[one.row_index].rank for one in result.predictions]
    assert {one.num_candidates for one in result.predictions} == {len(COLOURS)}


def test_a_prediction_has_its_kind_of_question(run, tmp_path):
    """Those of a sample are the kinds of its rows."""
    kinds = [f"kind {number}" for number in range(12)]
    rows = [row | {"kind": kind} for row, kind in zip(rows_of(run), kinds, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = evaluate_vision(recipe(run, "--dataset_name", str(tmp_path / "rows.jsonl")), max_rows=5)
    assert [one.kind for one in result.predictions] == [kinds[index] for index in sample_indices(12, 5)]
    assert {one.kind for one in evaluate_vision(recipe(run)).predictions} == {None}


def test_a_feature_cache_gives_the_same_answers(run, tmp_path):
    plain = evaluate_vision(recipe(run))
    cached = evaluate_vision(recipe(run, "--feature_cache", str(tmp_path / "cache")))
    for mine, its in zip(plain.predictions, cached.predictions, strict=True):
        assert mine.score == pytest.approx(its.score, abs=1e-2)
    assert len([*(tmp_path / "cache").glob("*/*.npy")]) == 6


def test_embeddings_that_are_all_equal_are_right_about_nothing(run):
    path = run / "run" / "model.safetensors"
    before = path.read_bytes()
    weights = load_file(path)
    weights["target_head.weight"] = torch.zeros_like(weights["target_head.weight"])
    weights["target_head.bias"] = torch.ones_like(weights["target_head.bias"])
    try:
        save_file(weights, path, metadata={"format": "pt"})
        result = evaluate_vision(recipe(run))
    finally:
        path.write_bytes(before)
    assert result.scores["accuracy"].hits == 0
    assert result.image_to_answer["recall_at_5"] == 0


def test_the_command_writes_predictions_and_scores(run, capsys):
    assert command(["eval", str(run / "run"), "--max_rows", "6"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"accuracy .* %", said)
    assert "answer to image" in said
    lines = [json.loads(line) for line in (run / "run" / "predictions-tuned.jsonl").read_text().splitlines()]
    scores = json.loads((run / "run" / "scores-tuned.json").read_text())
    assert scores["scores"]["accuracy"]["hits"] == sum(line["rank"] == 1 for line in lines)
    assert scores["rows"] == len(lines) == 6


def test_scores_of_other_rows_or_labels_are_not_replaced_in_silence(run, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("".join(f"{colour}\n" for colour in COLOURS))
    evaluate = ["eval", str(run / "run"), "--predictions", str(tmp_path)]
    for options, line in (
        ([], None),
        ([], None),
        (["--dataset_test_split", "train[:4]"], "12 rows (train, "),
        ([], "; other split. To"),
        (["--labels", str(tmp_path / "labels.txt")], "; other labels. To"),
    ):
        assert command([*evaluate, *options]) == 0
        said = capsys.readouterr().err
        assert (line in said) if line else ("replace" not in said)
    scores = json.loads((tmp_path / "scores-tuned.json").read_text())
    assert (scores["rows"], scores["split"], len(scores["labels"])) == (12, "train", 64)


def test_a_blind_run_retrieves_by_questions(run, tmp_path, capsys):
    blind = tmp_path / "blind"
    train([str(run / "recipe.yaml"), "--inputs", "question", "--output_dir", str(blind), "--max_steps", "1"])
    assert command(["eval", str(blind)]) == 0
    said = capsys.readouterr().out
    assert "question to answer" in said
    assert "answer to question" in said
    assert "image" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--decoding", "latent"], "`--decoding` has no effect on a run of VL-JEPA"),
        (["--checkpoints", "base"], "A run of VL-JEPA joins its parts by random weights: there is no base"),
        (["--labels", "no/such"], "There is no file `no/such`"),
        (["--labels", "{long}"], "'yellow yellow yellow yellow yellow yellow yellow yellow yell' has"),
        (["--predictor_layers", "3"], "was made with `predictor_layers: 2`; the recipe says 3. Write the same."),
        (["--predictor_layer", "2"], "unknown key `predictor_layer`. Did you mean `predictor_layers`"),
    ],
)
def test_what_has_no_effect_is_refused(arguments, message, run, tmp_path, capsys):
    long = tmp_path / "long.txt"
    long.write_text("\n".join([*COLOURS, "yellow " * 600]))
    with pytest.raises(SystemExit):
        command(["eval", str(run / "run"), *(argument.format(long=long) for argument in arguments)])
    assert message in capsys.readouterr().err
