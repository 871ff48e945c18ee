"""An experiment on a tiny model: cells run once and are kept; verdicts use finished cells only."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_jepa.cli import main
from llm_jepa.experiments.cell_spec import LOCK_FILE, RESULT_FILE, SPEC_FILE
from llm_jepa.experiments.cells import Series, search_cells
from llm_jepa.experiments.common_rows import find_common_rows
from llm_jepa.experiments.comparison import chosen_point
from llm_jepa.experiments.rendering import render_html, render_markdown
from llm_jepa.experiments.running import LOG_FILE, CellError
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.runs.record import toolkit_commit
from tests.experiments.conftest import ARMS, SPLITS, TUBE, WHOLE
from tests.forks import TIMEOUT_SECONDS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # where a script finds its neighbours
committed_cells = importlib.import_module("evidence.cells")


def copied(finished, path):
    """`path` with the cells of the finished experiment."""
    shutil.copytree(read_experiment(finished).output_dir, read_experiment(path).output_dir)
    return path


def report_of(path) -> dict:
    return json.loads((read_experiment(path).output_dir / "report.json").read_text())


def test_every_arm_has_every_seed_and_fewer_than_five_seeds_are_too_few(finished):
    report = report_of(finished)
    assert report["missing"] == []
    for arm in ARMS:
        assert set(report["series"][arm]["scores"]["strict"]["by_seed"]) == {"1", "2"}
    for by_score in report["comparisons"].values():
        for score, by_arm in by_score.items():
            expected = "too few to tell" if score == "strict" else "descriptive"
            assert {verdict["outcome"] for verdict in by_arm.values()} == {expected}


def test_none_right_is_not_reported_as_certain(finished):
    """An untrained model is right at 0 of 8 rows: Wilson's interval, where a deviation over seeds would say +- 0."""
    report = report_of(finished)
    for page in (render_markdown(report), render_html(report)):
        assert "0.0 (0.0 to 32.4)" in page
        assert "0.0 ± 0.0" not in page
        assert "nothing is claimed from them" in page
        assert "of each comparison by itself" in page
        assert "trained parameters are those of the model, without them" in page
        assert "No search on a dev split. The arms set, over the recipe: lm_only: jepa_weight 0.0." in page
        assert "if any evaluation along its training does" in page


def test_a_threshold_is_an_outcome_too_and_curves_are_drawn(finished):
    """No run reaches 90 %: both shares are 0 of 2, and so are the verdicts that two seeds allow."""
    report = report_of(finished)
    for measure in ("share of seeds", "time"):
        by_budget = report["by_threshold"][measure]
        assert {budget: list(found) for budget, found in by_budget.items()} == {
            "equal_steps": ["jepa"],
            "equal_flops": ["jepa"],
        }
    share = report["by_threshold"]["share of seeds"]["equal_steps"]["jepa"]
    assert "0 of 2 seeds (95 % 0 to 66 %)" in share["sentence"]
    assert [point["step"] for point in report["series"]["jepa"]["curve"]["1"]] == [1, 2]
    page = render_html(report)
    assert "Reaching 90 % strict" in page
    assert page.count("<svg") == 2 + 1 + 3


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
        assert sources == {tuple(row["source"] for row in SPLITS["test"])}
        results = [json.loads((cells / arm / seed / RESULT_FILE).read_text()) for arm in ARMS]
        for key, value in (("row_indices", list(range(8))), ("clusters", list(range(8))), ("left_out", {})):
            assert [result[key] for result in results] == [value] * len(ARMS)
    assert not list(cells.rglob("*.safetensors"))
    assert not list(cells.rglob("*.partial.jsonl"))


def test_golds_that_are_all_bad_are_refused_before_any_cell_trains(written, capsys, tmp_path):
    settings = {"task": "sql", "database_path": str(tmp_path / "absent.sqlite")}
    path = written("bad-golds", recipe_settings=settings)
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    assert "`task: sql` can score by no gold: 8 of 8 rows: there is no database (8)" in capsys.readouterr().err
    assert not read_experiment(path).output_dir.exists()


def test_a_report_that_cannot_be_written_is_told_and_ends_no_cells(finished, written, caplog):
    """A directory stands where a file should; the last report is the one that must be written."""
    path = copied(finished, written("unwritable", **WHOLE))
    markdown = read_experiment(path).output_dir / "report.md"
    markdown.unlink(missing_ok=True)
    markdown.mkdir()
    with pytest.raises((SystemExit, IsADirectoryError)):
        main(["compare", str(path)])
    told = [record.message for record in caplog.records if "cells so far was not written" in record.message]
    assert len(told) == 1 + len(list(read_experiment(path).output_dir.rglob(RESULT_FILE)))


def test_a_missing_cell_makes_the_verdict_incomplete_and_gives_no_number(finished, written):
    """One of two seeds has run: the arm that lacks a cell has no figures."""
    path = copied(finished, written("incomplete", **WHOLE))
    (read_experiment(path).output_dir / "cells" / "jepa" / "2" / RESULT_FILE).unlink()
    assert main(["compare", str(path), "--report_only"]) == 0
    report = report_of(path)
    verdict = report["comparisons"]["equal_steps"]["strict"]["jepa"]
    assert (verdict["outcome"], verdict["difference"], verdict["adjusted_p_value"]) == ("incomplete", None, None)
    assert report["missing"] == [["jepa", 2]]
    assert "INCOMPLETE: 1 cells" in render_markdown(report)
    assert "jepa seed 2" in render_html(report)


def test_a_comparison_that_was_killed_goes_on_and_keeps_what_was_finished(written, python, monkeypatch):
    """kill -9 of the comparison after its first cell, while the process of the second cell still runs."""
    path = written("killed", seeds=[1], equal_flops="none")
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
    assert report_of(path)["missing"], "the report of an unfinished comparison names the cells that it lacks"
    stamp = first.stat().st_mtime_ns
    monkeypatch.setattr(sys, "executable", python)
    assert main(["compare", str(path)]) == 0
    assert first.stat().st_mtime_ns == stamp
    assert report_of(path)["missing"] == []
    for arm in ("lm_only", "jepa"):
        log = (output_dir / "cells" / arm / "1" / LOG_FILE).read_text()
        assert log.count("train_runtime") == 1, "a cell that was left at work was run a second time"


@pytest.mark.usefixtures("_quick_cells")
def test_a_failing_cell_and_a_diverged_one_are_named_and_the_others_are_finished(written, capsys):
    """The optimizer of one arm is not installed. With another one the cell runs anew: the failure left nothing.

    A rate of 1e30 diverges. Such a cell is a result without scores, and does not run again.
    """
    arms = {"broken": {"optim": "lomo"}, "diverging": {"learning_rate": 1e30}, "lm_only": {"jepa_weight": 0}}
    path = written("failing", arms=arms, seeds=[1], equal_flops="none")
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    captured = capsys.readouterr()
    assert re.search(r"Cell broken, seed 1, failed \(status \d+\); see .*log.txt. error: .*lomo", captured.err)
    assert report_of(path)["missing"] == [["broken", 1], ["diverging", 1]]
    log = read_experiment(path).output_dir / "cells" / "diverging" / "1" / LOG_FILE
    stamp = log.stat().st_mtime_ns
    written("failing", arms=arms | {"broken": {"optim": "sgd"}}, seeds=[1], equal_flops="none")
    assert main(["compare", str(path)]) == 0
    assert report_of(path)["missing"] == [["diverging", 1]]
    said = "diverging diverged with seed 1, so that it has no verdict: The loss is nan"
    assert f"without scores: {said}" in capsys.readouterr().out
    assert said in render_markdown(report_of(path))
    assert log.stat().st_mtime_ns == stamp


@pytest.mark.usefixtures("_quick_cells")
def test_every_arm_searches_its_own_grid_on_the_dev_split_and_so_does_the_longer_baseline(written):
    """Each arm and the longer baseline choose by their own cells. A rate of 1e30 diverges, and loses.

    Finished points stay finished in another grid; one that has none but diverged points is refused.
    """
    grids = {
        "lm_only": {"learning_rate": [1e30, 0.01]},
        "wide": {"learning_rate": [0.01], "num_predictor_tokens": [1, 16]},
    }
    content = {
        "seeds": [1],
        "arms": {"lm_only": {"jepa_weight": 0}, "wide": {"jepa_source_view": "alone", "jepa_target": "online"}},
        "primary_score": "capped",
    }
    path = written("searched", **content, search={"split": "validation", "grids": grids})
    assert main(["compare", str(path), "--jobs", "2"]) == 0
    experiment, report = read_experiment(path), report_of(path)
    specs = [json.loads(spec.read_text()) for spec in (experiment.output_dir / "search").rglob(SPEC_FILE)]
    assert {spec["settings"]["seed"] for spec in specs} == {1000}
    assert "Searched on validation with seed 1000, which no arm is compared with" in render_markdown(report)
    longer = report["comparisons"]["equal_flops"]["capped"]["wide"]["baseline"]
    assert longer.startswith("lm_only-")
    for series in (Series("lm_only"), Series("wide"), Series("lm_only", int(longer.split("-")[1]))):
        points = experiment.search.points(series.arm)
        results = [json.loads((cell.directory / RESULT_FILE).read_text()) for cell in search_cells(experiment, series)]
        assert {result["evaluated"]["dataset_test_split"] for result in results} == {"validation"}
        assert ["nan" in result.get("diverged", "") for result in results] == [series.arm == "lm_only", False]
        scores = [result["scores"].get("capped", 2) for result in results]
        assert report["chosen"][series.name] == points[scores.index(min(scores))]
    assert report["arms"]["wide"]["settings"].items() >= report["chosen"]["wide"].items()
    shown = render_markdown(report)
    for series in ("lm_only", longer):
        assert f"| {series} | learning_rate 1e+30 | diverged |  |" in shown
        assert re.search(rf"\| {series} \| learning_rate 0.01 \| [0-9.]+ \| chosen \|", shown)
    grids = {"lm_only": {"learning_rate": [1e30]}, "wide": {"learning_rate": [0.01]}}
    other = read_experiment(written("searched", **content, search={"split": "validation", "grids": grids}))
    with pytest.raises(CellError, match=r"Every point of lm_only diverged: learning_rate 1e\+30\. .* lower rates"):
        chosen_point(other, find_common_rows(other), Series("lm_only"))


def test_a_report_alone_runs_nothing(written, capsys):
    """Without a finished cell, a verdict names what is missing. An unfinished search gives no report."""
    path = written("unstarted", seeds=[1], equal_flops="none")
    assert main(["compare", str(path), "--report_only"]) == 0
    assert "jepa against lm_only: incomplete. Missing: lm_only seed 1; jepa seed 1." in capsys.readouterr().out
    assert not (read_experiment(path).output_dir / "cells").exists()
    search = {"split": "validation", "grid": {"learning_rate": [0.5]}}
    path = written("unsearched", search=search, seeds=[1])
    with pytest.raises(SystemExit):
        main(["compare", str(path), "--report_only"])
    assert "The search is not finished" in capsys.readouterr().err
    assert not read_experiment(path).output_dir.exists()


def test_results_are_not_taken_after_the_base_recipe_or_its_rows_have_changed(finished, written, capsys):
    """The experiment file stays as it is; what it names has changed."""
    path = copied(finished, written("changed", recipe_settings={"learning_rate": 0.05}, **WHOLE))
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    assert "was trained otherwise: `learning_rate` was 0.01 and is 0.05" in capsys.readouterr().err
    path = copied(finished, written("fewer", recipe_settings={"dataset_train_split": "train[:6]"}, **WHOLE))
    assert main(["compare", str(path), "--report_only"]) == 0
    report = report_of(path)
    assert "without scores: " in capsys.readouterr().out
    assert len(report["missing"]) == len(report["refused"]) > 0
    assert "`the rows trained on` was" in report["refused"][0]


@pytest.mark.usefixtures("_quick_cells")
def test_what_concerns_evaluation_alone_is_changed_without_training_again(written, capsys):
    """The models are kept, and generate more tokens. A batch size changes nothing that is finished."""
    path = written("kept", seeds=[1], equal_flops="none", keep_models=True)
    assert main(["compare", str(path)]) == 0
    runs = list(read_experiment(path).output_dir.rglob("run/trainer_state.json"))
    stamps = [state.stat().st_mtime_ns for state in runs]
    written("kept", seeds=[1], equal_flops="none", keep_models=True, evaluation={"max_new_tokens": 6})
    assert main(["compare", str(path)]) == 0
    assert len(runs) == 2
    assert [state.stat().st_mtime_ns for state in runs] == stamps
    results = list(read_experiment(path).output_dir.rglob(RESULT_FILE))
    assert {json.loads(one.read_text())["evaluated"]["evaluation.max_new_tokens"] for one in results} == {6}
    stamps = [one.stat().st_mtime_ns for one in results]
    evaluation = {"max_new_tokens": 6, "eval_batch_size": 3}
    written("kept", seeds=[1], equal_flops="none", keep_models=False, evaluation=evaluation)
    assert main(["compare", str(path)]) == 0
    assert [one.stat().st_mtime_ns for one in results] == stamps
    shutil.rmtree(runs[0].parent)
    written("kept", seeds=[1], equal_flops="none", evaluation={"max_new_tokens": 7})
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    assert "`evaluation.max_new_tokens` was 6 and is 7. Its model was not kept" in capsys.readouterr().err
    assert len(report_of(path)["missing"]) == 1, "the refusal of one cell ends no other"


def test_what_is_added_or_left_out_after_cells_is_said_and_shrinks_no_family(finished, written, capsys):
    """Of four finished cells: an arm and a seed are added; then the budget of equal FLOPs is left out."""
    path = copied(finished, written("declared", **WHOLE))
    arms = ARMS | {"tube": TUBE}
    assert main(["compare", str(written("declared", **WHOLE, arms=arms, seeds=[1, 2, 3])), "--report_only"]) == 0
    before = report_of(path)
    assert before["changes"] == ["CHANGED after 4 finished cells: arm tube, seed 3 added."]
    assert before["changes"][0] in render_markdown(before)
    assert before["changes"][0] in capsys.readouterr().out
    assert main(["compare", str(written("declared", **WHOLE, equal_flops="none")), "--report_only"]) == 0
    after = report_of(path)
    assert after["changes"] == [
        "DECLARED TOO, and left out here: jepa against lm_only at equal FLOPs. Comparisons left out stay in the "
        "family with p = 1."
    ]
    shutil.rmtree(read_experiment(path).output_dir / "cells" / "jepa")
    arms = ARMS | {"jepa": ARMS["jepa"] | {"learning_rate": 0.02}}
    assert main(["compare", str(written("declared", **WHOLE, arms=arms)), "--report_only"]) == 0
    changed = "CHANGED after 2 finished cells: in arm jepa `learning_rate` was 0.01 and is 0.02."
    assert report_of(path)["changes"] == [changed]
    reports = report_of(finished), after, before
    sizes = [one["comparisons"]["equal_steps"]["strict"]["jepa"]["n_comparisons"] for one in reports]
    assert sizes[0] == sizes[1] < sizes[2]


# --- cells kept in the repository


@pytest.fixture(scope="module")
def committed(finished, tmp_path_factory):
    directory = tmp_path_factory.mktemp("results") / "whole"
    assert committed_cells.collect(read_experiment(finished).output_dir, directory) == 4
    return directory


def without_logs(report: dict) -> dict:
    """A report as JSON gives it, without the training's figures, which are kept with fewer digits."""
    report = json.loads(json.dumps(report))
    for series in report["series"].values():
        del series["log"], series["last_log"], series["seconds_mean"]
    return report


def test_a_report_from_kept_cells_has_the_scores_and_verdicts_of_the_comparison(finished, committed):
    report = json.loads((read_experiment(finished).output_dir / "report.json").read_text())
    assert without_logs(committed_cells.committed_report(committed)) == without_logs(report)


def test_a_comparison_takes_restored_cells_as_its_own(written, committed, capsys):
    experiment = read_experiment(written("restored", **WHOLE))
    assert committed_cells.restore(committed, experiment.output_dir) == (4, 0)
    assert committed_cells.restore(committed, experiment.output_dir) == (0, 0)
    assert main(["compare", str(experiment.path), "--report_only"]) == 0
    assert "refused" not in capsys.readouterr().out
    report = json.loads((experiment.output_dir / "report.json").read_text())
    assert (report["missing"], report["changes"]) == ([], [])


def test_what_the_comparison_refuses_or_has_not_declared_is_not_kept(finished, written, tmp_path):
    """Of four cells, one has no record of its settings and one is of a seed that is no longer declared."""
    path = copied(finished, written("refusing", **WHOLE))
    cells = read_experiment(path).output_dir / "cells"
    (cells / "jepa" / "1" / SPEC_FILE).unlink()
    assert main(["compare", str(written("refusing", **WHOLE, seeds=[1])), "--report_only"]) == 0
    report = report_of(path)
    assert report["missing"] == [["jepa", 1]]
    assert "has no cell.json, so that its settings are not known" in report["refused"][0]
    assert committed_cells.collect(cells.parent, tmp_path / "kept") == 1
    assert [*committed_cells.read_cells(tmp_path / "kept")] == ["lm_only"]


def test_a_damaged_result_refuses_its_cell_and_no_other(finished, written, capsys):
    """The file is named, and stays."""
    path = copied(finished, written("damaged", **WHOLE))
    damaged = read_experiment(path).output_dir / "cells" / "jepa" / "1" / RESULT_FILE
    damaged.write_text('{"scores": {')
    assert main(["compare", str(path), "--report_only"]) == 0
    report = report_of(path)
    assert report["missing"] == [["jepa", 1]]
    assert report["refused"][0].startswith(f"`{damaged}` ")
    assert f"Remove `{damaged.parent}` to run the cell anew" in capsys.readouterr().out
    assert list(report["series"]["jepa"]["scores"]["strict"]["by_seed"]) == ["2"]
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: `{damaged}` ")
    assert damaged.read_text() == '{"scores": {'


def test_cells_of_several_commits_are_told_and_stay_valid(finished, written):
    """The package of the tests is a git checkout; a cell of an earlier version has no commit."""
    path = copied(finished, written("commits", **WHOLE))
    results = sorted((read_experiment(path).output_dir / "cells").rglob(RESULT_FILE))
    found = [json.loads(result.read_text()) for result in results]
    for result, content, commit in zip(results, found, ("abc", "abc", "def", None), strict=True):
        content = {key: value for key, value in content.items() if key != "commit"}
        result.write_text(json.dumps(content if commit is None else content | {"commit": commit}))
    assert main(["compare", str(path), "--report_only"]) == 0
    assert report_of(path)["missing"] == []
    told = re.search(r"Cells are of several commits of the toolkit: (.*)\.", render_markdown(report_of(path)))
    assert sorted(told[1].split(", ")) == ["1 of def", "1 of unknown", "2 of abc"]
    assert {content.get("commit") for content in found} == {toolkit_commit()}
    assert "several commits" not in render_markdown(report_of(finished))
