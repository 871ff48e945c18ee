"""An experiment on a tiny model: cells run once and are kept; verdicts use finished cells only."""

import json
import shutil
import subprocess
import sys
import time

import pytest
import yaml
from datasets import Dataset

from llm_jepa.cli import main
from llm_jepa.compute.flops import StepCounts, step_flops
from llm_jepa.experiments.arm_cost import ArmCost, count_arm, recipe_model_size
from llm_jepa.experiments.cell import LOCK_FILE, RESULT_FILE
from llm_jepa.experiments.comparison import LOG_FILE, chosen_points, compare, design_experiment, flop_matched_steps
from llm_jepa.experiments.report import render_html, render_markdown
from llm_jepa.experiments.spec import read_experiment
from tests.forks import TIMEOUT_SECONDS
from tests.tiny import PAIRS, save_tiny_model, tiny_tokenizer

RECIPE = {
    "source_column": "source",
    "target_column": "target",
    "use_cpu": True,
    "bf16": False,
    "max_length": 128,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "jepa_source_view": "prefix",
    "jepa_target": "stop_gradient",
}
ARMS = {"lm_only": {"jepa_weight": 0}, "jepa": {}}
TUBE = {"jepa_objective": "tube", "jepa_weight": 0.02, "jepa_source_view": "alone", "jepa_target": "online"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes an experiment file; all share one model, one data set and one base recipe."""
    directory = tmp_path_factory.mktemp("experiment")
    save_tiny_model(directory / "model")
    (directory / "data").mkdir()
    for split in ("train", "validation", "test"):
        Dataset.from_list(PAIRS).to_json(directory / "data" / f"{split}.jsonl")
    recipe = RECIPE | {"model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "data")}
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"output_dir": "unused"}))

    def write(name: str, **content):
        path = directory / f"{name}.yaml"
        defaults = {
            "recipe": str(directory / "recipe.yaml"),
            "output_dir": str(directory / name),
            "baseline": "lm_only",
            "arms": ARMS,
            "seeds": [1, 2],
            "evaluation": {"max_new_tokens": 4, "eval_batch_size": 8},
        }
        path.write_text(yaml.safe_dump(defaults | content, sort_keys=False))
        return path

    return write


@pytest.fixture
def _quick_cells(python, monkeypatch):
    """Cells start at once; those of the README's comparison start like a user's."""
    monkeypatch.setattr(sys, "executable", python)


@pytest.fixture(scope="module")
def finished(written, python):
    """A complete comparison by the command."""
    path = written("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        assert main(["compare", str(path), "--jobs", "2"]) == 0
    return path


def report_of(path) -> dict:
    return json.loads((read_experiment(path).output_dir / "report.json").read_text())


def test_every_arm_has_every_seed_and_fewer_than_five_seeds_are_too_few(finished):
    report = report_of(finished)
    assert report["missing"] == []
    for arm in ARMS:
        assert set(report["series"][arm]["scores"]["strict"]["by_seed"]) == {"1", "2"}
    for by_score in report["comparisons"].values():
        for by_arm in by_score.values():
            assert {verdict["outcome"] for verdict in by_arm.values()} == {"too few to tell"}


def test_the_baseline_of_equal_flops_trains_as_much_longer_as_the_arm_computes_more(finished):
    """Counted by hand from the tokens of the rows: prefix adds a token, and the target's forward is a third."""
    experiment = read_experiment(finished)
    costs = {arm: count_arm(experiment.parse(settings)) for arm, settings in {**ARMS, "tube": TUBE}.items()}
    assert costs["lm_only"] == costs["tube"]
    assert (costs["jepa"].num_rows, costs["jepa"].steps) == (8, 2)
    tokenizer = tiny_tokenizer()
    conversations = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": pair["source"]}, {"role": "assistant", "content": pair["target"]}],
            return_dict=True,
        )["input_ids"]
        for pair in PAIRS
    ]
    targets = [tokenizer(f"<|im_start|>assistant\n{pair['target']}")["input_ids"] for pair in PAIRS]
    tokens, detached = sum(map(len, conversations)), sum(map(len, targets))
    report = report_of(finished)
    longer = report["comparisons"]["equal_flops"]["strict"]["jepa"]["baseline"]
    steps = flop_matched_steps(costs["jepa"], costs["lm_only"])
    assert longer == ("lm_only" if steps == 2 else f"lm_only-{steps}-steps")
    size = recipe_model_size(experiment.parse(ARMS["jepa"]))
    added = step_flops(StepCounts(0, len(PAIRS), detached, 0), size) / len(PAIRS)
    assert costs["jepa"].flops_per_row - costs["lm_only"].flops_per_row == pytest.approx(added)
    assert tokens > detached


def test_steps_of_equal_flops_by_hand():
    assert flop_matched_steps(ArmCost(8, 100, 3.24), ArmCost(8, 100, 2.0)) == 162


def test_a_finished_comparison_runs_nothing_again(finished, capsys):
    experiment = read_experiment(finished)
    results = sorted(experiment.output_dir.rglob(RESULT_FILE))
    stamps = [path.stat().st_mtime_ns for path in results]
    assert main(["compare", str(finished)]) == 0
    assert [path.stat().st_mtime_ns for path in results] == stamps
    printed = capsys.readouterr().out
    assert "equal steps, by strict:" in printed
    assert "too few to tell" in printed


def test_arms_of_one_seed_are_scored_on_the_same_rows_and_models_are_not_kept(finished):
    cells = read_experiment(finished).output_dir / "cells"
    for seed in ("1", "2"):
        sources = {
            tuple(json.loads(line)["source"] for line in (cells / arm / seed / "predictions.jsonl").open())
            for arm in ARMS
        }
        assert sources == {tuple(pair["source"] for pair in PAIRS)}
    assert not list(cells.rglob("*.safetensors"))


def test_a_missing_cell_makes_the_verdict_incomplete_and_gives_no_number(finished, written):
    """One of two seeds has run: the arm that lacks a cell has no figures."""
    experiment = read_experiment(written("incomplete"))
    shutil.copytree(read_experiment(finished).output_dir, experiment.output_dir)
    (experiment.output_dir / "cells" / "jepa" / "2" / RESULT_FILE).unlink()
    report = compare(experiment, design_experiment(experiment, {arm: {} for arm in experiment.arms}))
    verdict = report["comparisons"]["equal_steps"]["strict"]["jepa"]
    assert (verdict["outcome"], verdict["difference"], verdict["adjusted_p_value"]) == ("incomplete", None, None)
    assert report["missing"] == [["jepa", 2]]
    assert "INCOMPLETE: 1 cells" in render_markdown(report)
    assert "jepa seed 2" in render_html(report)


def test_a_comparison_that_was_killed_goes_on_and_keeps_what_was_finished(written, python, monkeypatch):
    """kill -9 of the comparison after its first cell, while the process of the second cell still runs."""
    path = written("killed", seeds=[1], equal_flops=False)
    output_dir = read_experiment(path).output_dir
    program = f"import sys; sys.executable = {python!r}; from llm_jepa.cli import main; main()"
    command = [sys.executable, "-c", program, "compare", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    at_work: list = []
    while not at_work and time.monotonic() < deadline:
        time.sleep(0.1)
        done = list(output_dir.rglob(RESULT_FILE))
        at_work = [lock for lock in output_dir.rglob(LOCK_FILE) if done and not (lock.parent / RESULT_FILE).exists()]
    process.kill()
    process.wait()
    (first,) = done
    assert at_work
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(sys, "executable", python)
    assert main(["compare", str(path)]) == 0
    assert first.stat().st_mtime_ns == stamp
    assert report_of(path)["missing"] == []
    for arm in ("lm_only", "jepa"):
        log = (output_dir / "cells" / arm / "1" / LOG_FILE).read_text()
        assert log.count("train_runtime") == 1, "a cell that was left at work was run a second time"


@pytest.mark.usefixtures("_quick_cells")
def test_a_failing_cell_is_named_and_the_others_are_finished(written, capsys):
    """The optimizer of one arm is not installed."""
    arms = {"broken": {"optim": "lomo"}, "lm_only": {"jepa_weight": 0}}
    path = written("failing", arms=arms, seeds=[1], equal_flops=False)
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    captured = capsys.readouterr()
    assert "Cell broken, seed 1, failed" in captured.err
    assert report_of(path)["missing"] == [["broken", 1]]


@pytest.mark.usefixtures("_quick_cells")
def test_the_search_gives_every_arm_the_same_points_on_the_dev_split(written):
    path = written(
        "searched",
        seeds=[1],
        search={"split": "validation", "grid": {"learning_rate": [0.0, 0.01]}},
        primary_score="capped",
        equal_flops=False,
    )
    assert main(["compare", str(path), "--jobs", "2"]) == 0
    experiment = read_experiment(path)
    chosen = chosen_points(experiment)
    for arm in ("lm_only", "jepa"):
        scores = []
        for number in (0, 1):
            directory = experiment.output_dir / "search" / arm / str(number)
            assert "--dataset_test_split=validation" in json.loads((directory / "cell.json").read_text())["overrides"]
            scores.append(json.loads((directory / RESULT_FILE).read_text())["scores"]["capped"])
        assert chosen[arm] == {"learning_rate": [0.0, 0.01][scores.index(min(scores))]}
    assert report_of(path)["arms"]["jepa"]["settings"]["learning_rate"] == chosen["jepa"]["learning_rate"]


def test_a_report_alone_runs_nothing(written, capsys):
    """An unfinished search gives no report."""
    search = {"split": "validation", "grid": {"learning_rate": [0.0]}}
    path = written("unsearched", search=search, seeds=[1])
    with pytest.raises(SystemExit):
        main(["compare", str(path), "--report_only"])
    assert "The search is not finished" in capsys.readouterr().err
    assert not read_experiment(path).output_dir.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"baseline": "sft"}, "`baseline: sft` is not one of the arms lm_only, jepa"),
        ({"seeds": [1, 1]}, r"`seeds` are \[1, 1\]; give whole numbers from 0, each once"),
        ({"seeds": []}, r"`seeds` are \[\]"),
        ({"arms": {"lm_only": {}}}, "no arm beside the baseline"),
        ({"arms": {"lm_only": {}, "a": {"jepa_wieght": 1}}}, "arm `a`: .*Did you mean `jepa_weight`"),
        ({"arms": {"lm_only": {}, "a": {"seed": 1}}}, "arm `a` sets `seed`, which the experiment sets for each cell"),
        ({"arms": {"lm_only": {}, "a": {"push_to_hub": True}}}, "each cell would overwrite the one published before"),
        ({"primary_score": "accuracy"}, "allowed with `task: text` are strict, prefix, contains, stopped, capped"),
        ({"sedes": [1]}, "unknown key `sedes`; allowed are recipe, "),
        ({"evaluation": {"max_row": 1}}, "`evaluation`: unknown key `max_row`"),
        ({"search": {"grid": {"learning_rate": [1]}}}, "`search`: `split` must be given"),
        ({"search": {"split": "test", "grid": {"learning_rate": [1]}}}, "is the test split `test`"),
        ({"recipe": None}, "`recipe` must be given"),
    ],
)
def test_bad_experiments_are_refused_before_anything_runs(content, message, written):
    with pytest.raises(ValueError, match=message):
        read_experiment(written("bad", **content))


def test_a_cell_of_other_settings_is_not_reused(finished, written, capsys):
    path = written("changed", settings={"learning_rate": 0.5})
    shutil.copytree(read_experiment(finished).output_dir, read_experiment(path).output_dir)
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    assert "was run with other settings" in capsys.readouterr().err
