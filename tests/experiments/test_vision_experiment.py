"""An experiment on recipes of VL-JEPA: two tiny arms from the file to the report, and what an arm costs by hand."""

import json
import sys

import pytest
import yaml
from safetensors.torch import load_file

from llm_jepa.cli import main
from llm_jepa.evaluation.vision import chosen_answers, evaluate_model, evaluate_vision
from llm_jepa.experiments.cell_spec import CURVE_FILE, RESULT_FILE, RUN_DIRECTORY
from llm_jepa.experiments.cells import longer_baselines
from llm_jepa.experiments.common_rows import check_rows, find_common_rows, recipe_of
from llm_jepa.experiments.kinds import kind_of
from llm_jepa.experiments.learning_curve import read_curve
from llm_jepa.experiments.rendering import render_html
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.experiments.vision_kind import outcomes
from llm_jepa.runs.record import STATE_FILE
from llm_jepa.train import train
from llm_jepa.vision.building import load_model
from llm_jepa.vision.recipe import build_any_recipe
from tests.vision.tiny_parts import COLOURS, LANGUAGE, SENTENCE, VISION, colour_rows, picture, saved

ARMS = {"vl_jepa": {}, "blind": {"inputs": "question"}, "deeper": {"predictor_layers": 2}}
EVALUATION = {"eval_batch_size": 4, "every_steps": 2}
QUESTIONS = {"train": "what colour is it?", "validation": "which colour?", "test": "which one is it?"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes an experiment; all share the tiny parts, a recipe of 4 steps and six rows a split, of two kinds."""
    directory = tmp_path_factory.mktemp("vision")
    (directory / "data").mkdir()
    names = list(COLOURS)
    for split, question in QUESTIONS.items():
        rows = colour_rows(directory / "data", copies=1)
        for place, row in enumerate(rows):
            other = names[(place + 1) % len(names)]
            row |= {"question": question, "candidates": [other, row["answer"]], "kind": ("dark", "light")[place % 2]}
        (directory / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 1, "embedding_size": 12, "max_question_tokens": 32, "max_answer_tokens": 16,
        "dataset_name": str(directory / "data"), "candidates_column": "candidates", "output_dir": "unused",
        "text_encoder_learning_rate_factor": 0, "learning_rate": 1e-3, "num_train_epochs": 2, "logging_steps": 1,
        "per_device_train_batch_size": 3, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": True,
    }  # fmt: skip
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def write(name: str, **content):
        path = directory / f"{name}.yaml"
        defaults = {
            "recipe": str(directory / "recipe.yaml"), "output_dir": str(directory / name), "baseline": "blind",
            "arms": ARMS, "seeds": [1, 2], "evaluation": EVALUATION,
        }  # fmt: skip
        path.write_text(yaml.safe_dump(defaults | content, sort_keys=False))
        return path

    return write


@pytest.fixture(scope="module")
def finished(written, python):
    """A complete comparison of two arms by the command; the models are kept."""
    arms = {name: ARMS[name] for name in ("vl_jepa", "blind")}
    path = written("whole", arms=arms, seeds=[1], equal_flops="none", keep_models=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        assert main(["compare", str(path)]) == 0
    return read_experiment(path)


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cell(experiment, arm: str):
    directory = experiment.output_dir / "cells" / arm / "1"
    return directory, json.loads((directory / RESULT_FILE).read_text()), rows_of(directory / "predictions.jsonl")


def test_a_cell_has_the_outcome_of_each_row_as_eval_finds_it(finished):
    for arm in ("vl_jepa", "blind"):
        directory, result, predictions = cell(finished, arm)
        settings = finished.resolved(arm, {"output_dir": str(directory / "run")})
        evaluated = evaluate_vision(build_any_recipe(finished.recipe, settings)).predictions
        assert result["rows"]["accuracy"] == [one.rank == 1 for one in evaluated]
        assert [one["rank"] for one in predictions] == [one.rank for one in evaluated]
        assert result["scores"]["accuracy"] == sum(result["rows"]["accuracy"]) / 6
        halves = [result["rows"][f"accuracy_{kind}"] for kind in ("dark", "light")]
        assert [[value is None for value in half] for half in halves] == [[False, True] * 3, [True, False] * 3]
        assert sum(result["scores"][f"accuracy_{kind}"] for kind in ("dark", "light")) / 2 == pytest.approx(
            result["scores"]["accuracy"]
        )


def test_the_curve_ends_at_the_final_scores_and_training_does_not_notice(finished, tmp_path):
    """The same recipe trained without the comparison ends with the same weights."""
    directory, result, _ = cell(finished, "vl_jepa")
    assert [point["step"] for point in result["curve"]] == [2, 4]
    assert result["curve"][-1]["scores"] == result["scores"]
    state = json.loads((directory / RUN_DIRECTORY / STATE_FILE).read_text())
    evaluating = sum(point["seconds"] for point in read_curve(directory / CURVE_FILE))
    assert 0 < evaluating < state["log_history"][-1]["train_runtime"]
    assert result["training"]["seconds"] == state["log_history"][-1]["train_runtime"] - evaluating
    settings = finished.resolved("vl_jepa", {"output_dir": str(tmp_path / "alone"), "seed": 1})
    train(build_any_recipe(finished.recipe, settings))
    watched, alone = (load_file(run / "model.safetensors") for run in (directory / "run", tmp_path / "alone"))
    assert all((watched[name] == alone[name]).all() for name in alone)


def test_a_finished_comparison_is_reported_and_runs_nothing_again(finished, capsys):
    results = sorted(finished.output_dir.rglob(RESULT_FILE))
    stamps = [path.stat().st_mtime_ns for path in results]
    assert main(["compare", str(finished.path)]) == 0
    assert [path.stat().st_mtime_ns for path in results] == stamps
    printed = capsys.readouterr().out
    assert "equal steps, by accuracy:" in printed
    report = json.loads((finished.output_dir / "report.json").read_text())
    assert list(report["series"]["vl_jepa"]["scores"]) == ["accuracy", "accuracy_dark", "accuracy_light"]
    assert report["comparisons"]["equal_steps"]["accuracy_dark"]["vl_jepa"]["outcome"] == "descriptive"
    page = render_html(report)
    assert page.count("<svg") == 1 + 2 + 3  # differences; scores, by parameters; loss, by rows, by FLOPs
    assert "next-token loss" not in page
    assert "effective rank" in page
    assert "own networks" not in page


def test_what_an_arm_costs_by_hand(written):
    """Blind: q tokens of the question through one or two layers of Llama, a of the answer through a frozen BERT.

    A matrix that is trained takes 2 FLOPs a parameter and token forward and 4 backward, a frozen one 2, and the head
    behind the frozen encoder 2 + 2. Attention takes two products forward and five backward.
    """
    arms = {"one": {"inputs": "question"}, "two": {"inputs": "question", "predictor_layers": 2}}
    experiment = read_experiment(written("cost", arms=arms, baseline="one"))
    common = find_common_rows(experiment)
    rows = rows_of(experiment.path.parent / "data" / "train.jsonl")
    held_out = common.kind.held_out(recipe_of(experiment, experiment.resolved("one")), None, 1, 4)
    processor = held_out.held_out.collator.processor
    questions = [len(processor.question_tokenizer(row["question"])["input_ids"]) for row in rows]
    answers = [len(processor.answer_tokenizer(row["answer"])["input_ids"]) for row in rows]
    q, a = round(sum(questions) / 6), round(sum(answers) / 6)
    llama, bert = LANGUAGE["llama"], SENTENCE["bert"]
    width, inner, side = llama.hidden_size, llama.intermediate_size, bert.hidden_size
    matrices = 2 * width * width + 2 * width * width // 2 + 3 * width * inner
    layer = 6 * q * matrices + (2 + 5) * 2 * q * q * width
    text = bert.num_hidden_layers * (
        2 * a * (4 * side * side + 2 * side * bert.intermediate_size) + 2 * 2 * a * a * side
    )
    heads = 6 * width * 12 + 4 * side * 12
    norms = 2 * width
    for layers, arm in enumerate(arms, start=1):
        cost = common.cost(experiment.resolved(arm))
        assert cost.flops_per_row == layers * layer + text + heads
        assert cost.trained_parameters == layers * (matrices + norms) + width + (width + 1) * 12 + (side + 1) * 12
        assert (cost.num_rows, cost.steps, cost.rows_per_step) == (6, 4, 3)


def test_an_arm_that_answers_by_tokens_is_scored_and_counted(written):
    """It trains a layer, the last norm and the projector. Along the training it chooses as in the end, and writes no
    text.
    """
    arms = {
        "blind": ARMS["blind"],
        "tokens": {"answer_form": "tokens"},
        "two": {"answer_form": "tokens"} | ARMS["deeper"],
    }
    experiment = read_experiment(written("tokens", arms=arms))
    common = find_common_rows(experiment)
    recipe = recipe_of(experiment, experiment.resolved("tokens"))
    model, held_out = load_model(recipe.training).eval(), common.kind.held_out(recipe, None, 1, 4)
    whole = evaluate_model(model, held_out.held_out, 4)
    scores = held_out.scores(model, None)
    assert scores["accuracy"] == whole.scores["accuracy"].fraction
    chosen = chosen_answers(model, held_out.held_out, 4)
    assert [(one.prediction, one.rank) for one in chosen] == [(one.prediction, one.rank) for one in whole.predictions]
    assert {one.generated for one in chosen} == {None}
    assert None not in {one.generated for one in whole.predictions}
    one, two = (common.cost(experiment.resolved(arm)) for arm in ("tokens", "two"))
    llama = LANGUAGE["llama"]
    width = llama.hidden_size
    layer = 3 * width * width + 3 * width * llama.intermediate_size + 2 * width
    assert one.trained_parameters == layer + width + (VISION["dinov2"].hidden_size + 1) * width
    assert two.trained_parameters - one.trained_parameters == layer
    assert two.flops_per_row > one.flops_per_row


def test_equal_flops_are_those_of_the_arms(written):
    """A blind baseline takes more steps to compute as much."""
    experiment = read_experiment(written("longer"))
    common = find_common_rows(experiment)
    costs = {arm: common.cost(experiment.resolved(arm)) for arm in experiment.arms}
    longer = longer_baselines(experiment, costs)
    for arm in ("vl_jepa", "deeper"):
        (steps,) = (one.max_steps for one in longer[arm])
        assert steps is not None
        assert steps == round(4 * costs[arm].flops_per_row / costs["blind"].flops_per_row)


def test_a_row_is_known_by_its_picture_question_and_answer(written, tmp_path):
    """A copy of a picture under another name is the same picture; another question or picture makes another row."""
    data = written("keys").parent / "data"
    first, second, *_ = rows_of(data / "train.jsonl")
    picture(COLOURS[first["answer"]]).save(tmp_path / "copy.png")
    changes = {"image": str(tmp_path / "copy.png")}, {"question": "and this?"}, {"image": second["image"]}
    for split, rows in (("train", [first]), ("test", [first | change for change in changes])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = read_experiment(written("keys", settings={"dataset_name": str(tmp_path)}))
    recipe, kind = recipe_of(experiment, experiment.resolved("blind")), kind_of(experiment.base)
    (known,) = kind.row_keys(recipe, "train")
    assert [key == known for key in kind.row_keys(recipe, "test")] == [True, False, False]


def test_rows_that_two_splits_share_are_refused(written):
    leak = read_experiment(written("leak", settings={"dataset_train_split": "train+test[:2]"}))
    with pytest.raises(ValueError, match=r"2 of the 6 rows of `test` are in `train\+test\[:2\]` too"):
        find_common_rows(leak)


def test_test_rows_are_checked_before_any_cell_trains(written):
    experiment = read_experiment(written("unread", settings={"candidates_column": "kind"}))
    with pytest.raises(ValueError, match="Row 0 of the held-out data: `kind` is 'dark'; it must be a list"):
        check_rows(experiment)


def test_damaged_pictures_are_refused_before_any_cell_trains_and_a_report_does_not_decode_them(written, tmp_path):
    rows = colour_rows(tmp_path)
    (tmp_path / "red.png").write_bytes((tmp_path / "red.png").read_bytes()[:45])
    for split in ("train", "test"):
        lines = [json.dumps(row | {"question": f"{split} {number}"}) for number, row in enumerate(rows)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"dataset_name": str(tmp_path), "candidates_column": None}
    experiment = read_experiment(written("damaged", settings=settings))
    with pytest.raises(ValueError, match="Of 6 pictures 1 cannot be read, the first: row 0: picture"):
        check_rows(experiment)
    find_common_rows(experiment)
    (tmp_path / "red.png").unlink()
    with pytest.raises(ValueError, match=r"red\.png` cannot be read \(looked in `.*`\): No such file"):
        find_common_rows(experiment)


def test_questions_about_one_picture_are_a_cluster_also_for_the_blind(written, tmp_path):
    """Pictures a, b, ... f, and then again; a copy under another name is the same picture."""
    rows = colour_rows(tmp_path, copies=2)
    picture(COLOURS["red"]).save(tmp_path / "copy.png")
    rows[6]["image"] = str(tmp_path / "copy.png")
    for split in ("train", "test"):
        lines = [json.dumps(row | {"question": split, "candidates": [row["answer"]]}) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    experiment = read_experiment(written("clusters", settings={"dataset_name": str(tmp_path)}))
    for arm in ("vl_jepa", "blind"):
        held_out = kind_of(experiment.base).held_out(recipe_of(experiment, experiment.resolved(arm)), None, 1, 4)
        assert held_out.clusters == [0, 1, 2, 3, 4, 5] * 2


def test_outcomes_without_kinds_are_of_all_rows_alone():
    class Prediction:
        kind, rank = None, 2

    assert outcomes([Prediction()]) == {"accuracy": [False]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"evaluation": {"max_new_tokens": 4}}, "`max_new_tokens` has no effect: answers of VL-JEPA are chosen"),
        ({"primary_score": "strict"}, "'strict'; allowed with a recipe of VL-JEPA are accuracy"),
        ({"arms": {"blind": {}, "a": {"candidates_column": "kind"}}}, "sets `candidates_column`; all arms train and"),
        ({"arms": {"blind": {}, "a": {"jepa_weight": 1}}}, "unknown key `jepa_weight`"),
        ({"arms": {"blind": {}, "a": {"predictor_layers": 1}}}, "`blind` and `a` train alike"),
        ({"settings": {"inputs": "image"}}, "`inputs` is 'image'; it must be one of image_and_question, question"),
    ],
)
def test_bad_experiments_on_vl_jepa_are_refused(content, message, written):
    with pytest.raises(ValueError, match=message):
        read_experiment(written("bad", **content))


def test_a_recipe_of_vl_jepa_is_no_experiment(written):
    path = written("no-experiment").with_name("recipe.yaml")
    with pytest.raises(ValueError, match="is a recipe, and an experiment compares arms of one"):
        read_experiment(path)
