"""Makes a report from the results of the cells: summaries and verdicts, computed from the outcome of each test row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jepa.experiments.claims import Results, compare_results, contrasts_of, reaches_of, summary_json
from llm_jepa.experiments.declared import changes, declared_comparisons, items_of
from llm_jepa.experiments.series_names import arm_of
from llm_jepa.experiments.significance import Contrast
from llm_jepa.experiments.significance.verdicts import Reaches


def assemble_report(design: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """The report as JSON.

    Args:
        design: What the report knows beside the results, as `comparison.design_json` gives it.
        results: Series -> seed -> result of each finished cell.
    """
    experiment = design["experiment"]
    results = {name: results.get(name, {}) for name in design["series_names"]}
    found = dict.fromkeys(score for s in results.values() for r in s.values() for score in r["scores"])
    known = [name for name in design["score_names"] if name in found or name == experiment["primary_score"]]
    names = [*known, *(name for name in found if name not in known)]
    contrasts, declared = contrasts_of(design["baselines"]), design.get("declared")
    items = items_of(experiment, list(design["arms"]), contrasts)
    comparisons, by_threshold = compare_results(
        contrasts,
        results,
        baseline=experiment["baseline"],
        names=names,
        primary_score=experiment["primary_score"],
        seeds=experiment["seeds"],
        clusters=_clusters(results),
        reaches=_reaches(design, contrasts, results),
        declared=declared_comparisons(declared["entries"], items) if declared else (),
    )
    return {
        **design,
        "changes": changes(declared, items) if declared else [],
        "series": {name: _series(found, names) for name, found in results.items()},
        "comparisons": comparisons,
        "by_threshold": by_threshold,
        "commits": dict(Counter(r.get("commit", "unknown") for found in results.values() for r in found.values())),
        "missing": [
            [name, seed] for name, found in results.items() for seed in experiment["seeds"] if seed not in found
        ],
    }


def _clusters(results: Results) -> list[int] | None:
    """The data set's row that each test row comes from; None if each comes from its own."""
    clusters = next((result["clusters"] for found in results.values() for result in found.values()), None)
    return None if clusters is None or len(set(clusters)) == len(clusters) else clusters


def _reaches(design: Mapping[str, Any], contrasts: Sequence[Contrast], results: Results) -> Reaches | None:
    experiment, arms = design["experiment"], design["arms"]
    if experiment["threshold"] is None:
        return None
    costs = {arm: facts["cost"]["rows_per_step"] * facts["cost"]["flops_per_row"] for arm, facts in arms.items()}
    flops = {name: costs[arm_of(name)] for name in results}
    return reaches_of(contrasts, results, flops, score=experiment["primary_score"], threshold=experiment["threshold"])


def _series(found: Mapping[int, Mapping[str, Any]], names: list[str]) -> dict[str, Any]:
    """Scores, curves and training cost of a series over its finished seeds."""
    timed = [result["training"]["seconds"] for result in found.values()]
    seconds = [one for one in timed if one is not None]
    return {
        "scores": {name: summary_json(found, name) for name in names if found},
        "steps": next((result["training"]["steps"] for result in found.values()), None),
        "seconds_mean": sum(seconds) / len(seconds) if seconds else None,
        "last_log": {seed: result["training"]["last_log"] for seed, result in found.items()},
        "log": {seed: result["training"]["log"] for seed, result in found.items()},
        "curve": {seed: result["curve"] for seed, result in found.items()},
        "left_out": {seed: result["left_out"] for seed, result in found.items() if result["left_out"]},
        "eval_batch_sizes": sorted({result["eval_batch_size"] for result in found.values()}),
    }
