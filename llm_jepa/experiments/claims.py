"""What a report says of every contrast and score: claims by the primary score, descriptions by the others."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llm_jepa.experiments.significance import (
    Contrast,
    Reach,
    Verdict,
    descriptions,
    first_reach,
    summarise,
    verdicts,
)
from llm_jepa.experiments.significance.crossed import effective_clusters
from llm_jepa.experiments.significance.verdicts import Reaches
from llm_jepa.scoring.tasks import LOWER_IS_BETTER
from llm_jepa.scoring.wilson import wilson_interval

Results = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Series -> seed -> result of the cell, with `scores` and the `rows` of each score."""


def contrasts_of(baselines: Mapping[Any, Mapping[str, str]]) -> list[Contrast]:
    """The contrasts of `budget -> arm -> baseline`: all that the report compares, one family."""
    return [
        Contrast(arm, baseline, budget) for budget, by_arm in baselines.items() for arm, baseline in by_arm.items()
    ]


def compare_results(
    contrasts: Sequence[Contrast],
    results: Results,
    *,
    names: Sequence[str],
    primary_score: str,
    seeds: Sequence[int],
    clusters: Sequence[Hashable] | None = None,
    reaches: Reaches | None = None,
) -> tuple[dict[str, dict[str, dict[str, Any]]], list[dict[str, Any]]]:
    """`budget -> score -> arm -> verdict` as JSON, and the verdicts by the threshold.

    Args:
        contrasts: All declared contrasts.
        results: The finished cells.
        names: The scores to show.
        primary_score: The only score that claims are made from.
        seeds: All declared seeds.
        clusters: The cluster of each test row, if rows come in clusters.
        reaches: Budget -> series -> seed -> when the run reached the threshold, if one is declared.
    """
    tables: dict[str, dict[str, dict[str, Any]]] = {contrast.budget: {} for contrast in contrasts}
    by_threshold: list[dict[str, Any]] = []
    for name in names:
        rows = common_values(results, name)
        if name == primary_score:
            found = verdicts(
                contrasts,
                rows,
                seeds,
                clusters=clusters,
                higher_is_better=name not in LOWER_IS_BETTER,
                reaches=reaches,
            )
            by_threshold = [verdict_json(verdict) for verdict in found[len(contrasts) :]]
        else:
            found = descriptions(contrasts, rows, seeds, clusters=clusters)
        for verdict in found[: len(contrasts)]:
            tables[verdict.budget].setdefault(name, {})[verdict.arm] = verdict_json(verdict)
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
    baselines: Mapping[Any, Mapping[str, str]],
    results: Results,
    flops_per_step: Mapping[str, float],
    *,
    score: str,
    threshold: float,
) -> Reaches:
    """Budget -> series -> seed -> when the run reached the threshold: in steps, or in FLOPs at equal FLOPs.

    Args:
        baselines: Budget -> arm -> the series that it is compared with.
        results: The finished cells, each with its `curve` and `scores`.
        flops_per_step: Series -> FLOPs of a step.
        score: The score that the threshold is of.
        threshold: The score to reach.
    """
    reaches: dict[str, dict[str, dict[int, Reach]]] = {}
    for budget, by_arm in baselines.items():
        unit = "FLOPs" if budget == "equal_flops" else "steps"
        reaches[budget] = {}
        for series in {*by_arm, *by_arm.values()}:
            factor = flops_per_step[series] if unit == "FLOPs" else 1.0
            reaches[budget][series] = {
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
    """Step and score of each evaluation along a cell's training, and at its end."""
    points = [(point["step"], point["scores"][score]) for point in result["curve"] if score in point["scores"]]
    return [*points, (result["training"]["steps"], result["scores"][score])]


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict with its sentence."""
    return asdict(verdict) | {"sentence": verdict.sentence}


def summary_json(found: Mapping[int, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One score of a series over its finished seeds, at least one.

    `interval` is Wilson's for the mean score as a share of the test rows, or of their effective number if they come in
    clusters. The seeds share the rows, so their number does not narrow it.
    """
    by_seed = {seed: result["scores"][name] for seed, result in found.items()}
    summary = summarise(by_seed)
    result = next(iter(found.values()))
    values = zip(result["clusters"], result["rows"][name], strict=True)
    clusters = [cluster for cluster, value in values if value is not None]
    count = effective_clusters(clusters, len(clusters))
    return {"by_seed": by_seed, **asdict(summary), "interval": wilson_interval(summary.mean * count, count)}
