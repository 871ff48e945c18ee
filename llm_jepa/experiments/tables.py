"""The tables of a comparison's report, made from its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_jepa.experiments.figures import series_cost
from llm_jepa.experiments.significance import p_in_words, p_range
from llm_jepa.experiments.spec import settings_in_words

COLLAPSE_FIGURES = {
    "jepa_cosine": "cosine",
    "jepa_cosine_unpaired": "unpaired cosine",
    "jepa_effective_rank": "effective rank",
}


@dataclass(frozen=True)
class Table:
    """A heading, and rows of as many cells; the first cell of a row is its name."""

    heading: list[str]
    rows: list[list[str]]


def differences_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each contrast: verdict, difference and intervals in points (hundredths), p value, power.

    The power is the true difference that would be found with 80 % probability, "none" above the largest possible. If
    something is "better" or "worse", two columns say how robust that is.
    """
    over = f" over {verdicts[0]['n_comparisons']}" if verdicts else ""
    heading = ["arm", "verdict", "baseline", "difference", "95 %", "seeds alone", "rows alone", f"p (Holm{over})"]
    heading += ["found with 80 %"]
    is_decided = any(verdict.get("robustness") for verdict in verdicts)
    heading += ["p without any one seed", "sign-flip p"] * is_decided
    rows = []
    for verdict in verdicts:
        figures = ["-"] * (len(heading) - 3)
        if (difference := verdict["difference"]) is not None:
            figures = [
                f"{100 * difference['mean']:+.1f}",
                _interval(difference["interval"]),
                _interval(difference["seed_interval"]),
                _interval(difference["row_interval"]),
                _p_value(verdict["adjusted_p_value"]),
                _power(verdict),
                *(_robustness(verdict) if is_decided else ()),
            ]
        rows.append([verdict["arm"], verdict["outcome"], verdict["baseline"], *figures])
    return Table(heading, rows)


def search_table(report: Mapping[str, Any]) -> Table:
    """The points of the search with the score that chose among them."""
    experiment, rows = report["experiment"], []
    for series, points in experiment["search"]["points"].items():
        for point in points:
            score, is_chosen = point["score"], point["settings"] == report["chosen"][series]
            shown = "diverged" if score is None else f"{100 * score:.1f}"
            rows.append([series, settings_in_words(point["settings"]), shown, "chosen" if is_chosen else ""])
    return Table(["searched", "settings", f"{experiment['primary_score']} %", ""], rows)


def other_scores_table(report: Mapping[str, Any], budget: str) -> Table:
    """The differences by the scores that nothing is claimed from, one column each."""
    primary = report["experiment"]["primary_score"]
    others = {name: found for name, found in report["comparisons"][budget].items() if name != primary}
    contrasts = list(dict.fromkeys(key for found in others.values() for key in found))
    return Table(
        ["other scores", *others],
        [[key, *(_descriptive(found[key]["difference"]) for found in others.values())] for key in contrasts],
    )


def scores_table(report: Mapping[str, Any]) -> Table:
    """The primary score beside the collapse figures, then the other scores."""
    primary = report["experiment"]["primary_score"]
    names = list(dict.fromkeys(name for series in report["series"].values() for name in series["scores"]))
    names = list(dict.fromkeys(name for name in (primary, *names) if name in names))
    logged = {key for series in report["series"].values() for log in series["last_log"].values() for key in log}
    collapse = [key for key in COLLAPSE_FIGURES if key in logged]
    rows = []
    for name, series in report["series"].items():
        finished = max((score["n_seeds"] for score in series["scores"].values()), default=0)
        shown = [_mean(series["scores"].get(score)) for score in names]
        rows.append([name, str(finished), shown[0] if shown else "-", *_collapse(series, collapse), *shown[1:]])
    heading = ["arm", "seeds", *names[:1], *(COLLAPSE_FIGURES[key] for key in collapse), *names[1:]]
    return Table(heading if names else ["arm", "seeds", primary], rows)


def cost_table(report: Mapping[str, Any]) -> Table:
    baseline = report["arms"][report["experiment"]["baseline"]]["cost"]
    flops = baseline["steps"] * baseline["rows_per_step"] * baseline["flops_per_row"]
    is_counted = "trained_parameters" in baseline  # reports of earlier versions lack it
    rows = []
    for name, series in report["series"].items():
        cost = series_cost(report, name)
        steps, seconds = series["steps"], series["seconds_mean"]
        ratio = None if steps is None else steps * cost["rows_per_step"] * cost["flops_per_row"] / flops
        rows.append(
            [
                name,
                "-" if steps is None else str(steps),
                f"{cost['rows_per_step']:.0f}",
                "-" if ratio is None else f"{ratio:.2f}",
                "-" if seconds is None else f"{seconds:.0f}",
                *([f"{cost['trained_parameters'] / 1e6:,.2f} M"] if is_counted else []),
            ]
        )
    heading = ["arm", "steps", "rows per step", "FLOPs over the baseline's", "seconds"]
    return Table([*heading, *(["trained parameters"] if is_counted else [])], rows)


def _power(verdict: Mapping[str, Any]) -> str:
    detectable, baseline = verdict["detectable_difference"], verdict["difference"]["baseline_mean"]
    if detectable is None:
        return "-"
    return "none" if detectable > max(baseline, 1 - baseline) else f"{100 * detectable:.1f}"


def _robustness(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Of a "better" or "worse": the range of p without one seed, and the corrected p of the sign-flip test."""
    if (robustness := verdict.get("robustness")) is None:
        return "-", "-"
    return p_range(robustness["p_without_seed"].values()), _p_value(robustness["corrected_sign_flip"])


def _p_value(p: float | None) -> str:
    return "-" if p is None else p_in_words(p)


def _collapse(series: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Mean over seeds of what was logged last."""
    shown = []
    for key in keys:
        values = [log[key] for log in series["last_log"].values() if key in log]
        shown.append(f"{sum(values) / len(values):.2f}" if values else "-")
    return shown


def _interval(interval: Mapping[str, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval['low']:+.1f} to {100 * interval['high']:+.1f}"


def _descriptive(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "-"
    interval = "" if difference["interval"] is None else f" ({_interval(difference['interval'])})"
    return f"{100 * difference['mean']:+.1f}{interval}"


def _mean(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    low, high = summary["interval"]
    return f"{100 * summary['mean']:.1f} ({100 * low:.1f} to {100 * high:.1f})"
