"""What a report says of every contrast and score: claims by the primary score, descriptions by the others."""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llm_jepa.experiments.series_names import arm_of
from llm_jepa.experiments.significance import (
    Contrast,
    Reach,
    Robustness,
    Verdict,
    descriptions,
    effective_rows,
    first_reach,
    robustness,
    summarise,
    verdicts,
)
from llm_jepa.experiments.significance.verdicts import Reaches
from llm_jepa.scoring.tasks import LOWER_IS_BETTER
from llm_jepa.scoring.wilson import wilson_interval

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Series -> seed -> result of the cell, with `scores` and the `rows` of each score."""


def contrasts_of(baselines: Mapping[Any, Mapping[str, str | Sequence[str]]]) -> list[Contrast]:
    """The contrasts of `budget -> arm -> baselines`: all that the report compares, one family.

    Designs of earlier versions have one baseline in the place of a list.
    """
    return [
        Contrast(arm, name, budget)
        for budget, by_arm in baselines.items()
        for arm, names in by_arm.items()
        for name in ([names] if isinstance(names, str) else names)
    ]


def contrast_key(contrast: Contrast, baseline: str) -> str:
    """What a contrast is called in its budget: `arm` against the experiment's `baseline`, else `arm against other`.

    The other is called by its arm, whatever its schedule.
    """
    against = arm_of(contrast.baseline)
    return contrast.arm if against == baseline else f"{contrast.arm} against {against}"


def compare_results(
    contrasts: Sequence[Contrast],
    results: Results,
    *,
    baseline: str,
    names: Sequence[str],
    primary_score: str,
    seeds: Sequence[int],
    clusters: Sequence[Hashable] | None = None,
    reaches: Reaches | None = None,
    declared: Sequence[tuple[Contrast, str]] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`budget -> score -> contrast -> verdict` as JSON, and those by the threshold.

    The latter are `measure -> budget -> contrast -> verdict`. Contrasts are called as `contrast_key` does.

    Args:
        contrasts: All declared contrasts.
        results: The finished cells.
        baseline: The experiment's baseline, an arm.
        names: The scores to show.
        primary_score: The only score that claims are made from.
        seeds: All declared seeds.
        clusters: The cluster of each test row, if rows come in clusters.
        reaches: Budget -> series -> seed -> when the run reached the threshold, if one is declared.
        declared: Comparisons that were declared at any time.
    """
    keys = [contrast_key(contrast, baseline) for contrast in contrasts]
    tables: dict[str, dict[str, dict[str, Any]]] = {contrast.budget: {} for contrast in contrasts}
    by_threshold: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        rows = common_values(results, name)
        robust: Sequence[Robustness | None] = [None] * len(keys)
        if name == primary_score:
            found = verdicts(
                contrasts,
                rows,
                seeds,
                clusters=clusters,
                higher_is_better=name not in LOWER_IS_BETTER,
                reaches=reaches,
                declared=declared,
            )
            robust = robustness(
                found[: len(keys)], contrasts, rows, seeds, clusters=clusters, reaches=reaches, declared=declared
            )
            for verdict, key in zip(found[len(keys) :], itertools.cycle(keys), strict=False):
                by_budget = by_threshold.setdefault(verdict.measure, {})
                by_budget.setdefault(verdict.budget, {})[key] = verdict_json(verdict)
        else:
            found = descriptions(contrasts, rows, seeds, clusters=clusters)
        for verdict, key, how_robust in zip(found[: len(keys)], keys, robust, strict=True):
            tables[verdict.budget].setdefault(name, {})[key] = verdict_json(verdict, how_robust)
    return tables, by_threshold


def common_values(results: Results, name: str) -> dict[str, dict[int, list[Any]]]:
    """Series -> seed -> a score of each test row; None in all cells where one cell does not count the row."""
    cells = [result["rows"][name] for found in results.values() for result in found.values()]
    left_out = {index for values in cells for index, value in enumerate(values) if value is None}
    return {
        series: {
            seed: [None if index in left_out else value for index, value in enumerate(result["rows"][name])]
            for seed, result in found.items()
        }
        for series, found in results.items()
    }


def reaches_of(
    contrasts: Sequence[Contrast],
    results: Results,
    flops_per_step: Mapping[str, float],
    *,
    score: str,
    threshold: float,
) -> Reaches:
    """Budget -> series -> seed -> when the run reached the threshold: in steps, or in FLOPs at equal FLOPs.

    Args:
        contrasts: All declared contrasts.
        results: The finished cells, each with its `curve` and `scores`.
        flops_per_step: Series -> FLOPs of a step.
        score: The score that the threshold is of.
        threshold: The score to reach.
    """
    reaches: dict[str, dict[str, dict[int, Reach]]] = {}
    for contrast in contrasts:
        unit = "FLOPs" if contrast.budget == "equal_flops" else "steps"
        of_budget = reaches.setdefault(contrast.budget, {})
        for series in {contrast.arm, contrast.baseline} - of_budget.keys():
            factor = flops_per_step[series] if unit == "FLOPs" else 1.0
            of_budget[series] = {
                seed: first_reach(
                    [(step * factor, value) for step, value in curve_of(result, score)],
                    threshold,
                    higher_is_better=score not in LOWER_IS_BETTER,
                    unit=unit,
                )
                for seed, result in results.get(series, {}).items()
            }
    return reaches


def curve_of(result: Mapping[str, Any], score: str) -> list[tuple[int, float]]:
    """Step and score of each evaluation along a cell's training, and at its end.

    The last step counts once, by the final evaluation: a second one would be a second chance at a threshold.
    """
    points = {point["step"]: point["scores"][score] for point in result["curve"] if score in point["scores"]}
    points[result["training"]["steps"]] = result["scores"][score]
    return [*points.items()]


def verdict_json(verdict: Verdict, how_robust: Robustness | None = None) -> dict[str, Any]:
    """A verdict with its sentence, and what becomes of it without one seed or by the sign-flip test."""
    if how_robust is None:
        return asdict(verdict) | {"sentence": verdict.sentence}
    figures = asdict(how_robust) | {"corrected_sign_flip": how_robust.corrected_sign_flip}
    return asdict(verdict) | {"sentence": f"{verdict.sentence} {how_robust.sentence}", "robustness": figures}


def summary_json(found: Mapping[int, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One score of a series over its finished seeds, at least one.

    `interval` is Wilson's for the mean score as a share of the effective number of rows: over seeds and rows, both
    drawn anew, or over the rows alone with one seed.
    """
    by_seed = {seed: result["scores"][name] for seed, result in found.items()}
    summary = summarise(by_seed)
    by_row = zip(*(result["rows"][name] for result in found.values()), strict=True)
    clusters = next(iter(found.values()))["clusters"]
    counted = [(row, cluster) for row, cluster in zip(by_row, clusters, strict=True) if None not in row]
    count = effective_rows(np.array([row for row, _ in counted]).T, [cluster for _, cluster in counted])
    return {"by_seed": by_seed, **asdict(summary), "interval": wilson_interval(summary.mean * count, count)}
