"""What the page shows of an experiment's report: figures and tables, by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_jepa.experiments.curve_figures import score_figure
from llm_jepa.experiments.figures import differences_figure, parameters_figure, scores_figure
from llm_jepa.experiments.report import budget_title, threshold_verdicts
from llm_jepa.experiments.significance import p_in_words, time_in_words
from llm_jepa.experiments.tables import Table, cost_table, differences_table, scores_table

Report = Mapping[str, Any]
INTERVALS_OF_ONE_KIND = ("seeds alone", "rows alone")


def figure(report: dict[str, Any], name: str) -> tuple[str, str]:
    """A figure and its caption: that of a budget's differences, `scores`, `parameters`, or the score by `rows`."""
    experiment, score = report["experiment"]["name"], report["experiment"]["primary_score"]
    if name in report["comparisons"]:
        shown = f"points of `{score}` over the baseline; a dot for each seed, mean and 95 % interval above the dots"
        return _drawn(differences_figure(report, name)), f"{experiment}, {_budget(report, name)}: {shown}."
    if name == "scores":
        return _drawn(
            scores_figure(report)
        ), f"{experiment}: `{score}` in per cent, a dot for each seed and their mean."
    if name == "parameters":
        shown = f"`{score}` in per cent by trained parameters; a line joins arms that differ in depth or model alone"
        return _drawn(parameters_figure(report)), f"{experiment}: {shown}."
    assert name == "rows", name
    shown = f"`{score}` in per cent by rows trained on, arms with all seeds; thin lines are seeds, thick ones means"
    return _drawn(score_figure(report, "rows")), f"{experiment}: {shown}."


def table(report: Report, name: str) -> Table:
    """A table: a budget's differences, `threshold`, `score`, `scores`, `seeds`, `curve` or `cost`."""
    if name in report["comparisons"]:
        whole = differences_table(_verdicts(report, name))
        return _named(_without(whole, INTERVALS_OF_ONE_KIND), _budget(report, name))
    made = {"threshold": _threshold, "score": _score, "scores": _scores, "seeds": _seeds}
    made |= {"curve": _curve, "cost": _cost}
    return made[name](report)


def curve_means(report: Report) -> dict[str, dict[int, float]]:
    """Series -> step -> mean of the primary score over the seeds, of series with all seeds."""
    score, means = report["experiment"]["primary_score"], {}
    for name, series in report["series"].items():
        if len(series["curve"]) == len(report["experiment"]["seeds"]):
            curves = [{point["step"]: point["scores"][score] for point in one} for one in series["curve"].values()]
            common = sorted(set.intersection(*map(set, curves)))
            means[name] = {step: sum(curve[step] for curve in curves) / len(curves) for step in common}
    return means


def _score(report: Report) -> Table:
    """The primary score alone."""
    whole = scores_table(report)
    score = report["experiment"]["primary_score"]
    return Table(["arm", "seeds", f"{score}, % (95 %)"], [[row[0], row[1], row[2]] for row in whole.rows])


def _scores(report: Report) -> Table:
    """Every score, with an interval for the primary one alone."""
    whole = scores_table(report)
    return Table(whole.heading, [[*row[:3], *(cell.partition(" (")[0] for cell in row[3:])] for row in whole.rows])


def _seeds(report: Report) -> Table:
    """The primary score of every seed in per cent, and the mean of arms with all seeds."""
    seeds, rows = report["experiment"]["seeds"], []
    for name, series in report["series"].items():
        score = series["scores"].get(report["experiment"]["primary_score"], {"by_seed": {}})
        shown = [f"{100 * score['by_seed'][seed]:.1f}" if seed in score["by_seed"] else "-" for seed in seeds]
        is_whole = len(score["by_seed"]) == len(seeds)
        mean = f"{100 * score['mean']:.1f}" if is_whole else "-"
        rows.append([name, f"{len(score['by_seed'])} of {len(seeds)}", *shown, mean])
    return Table(["arm, right in %", "seeds done", *(f"seed {seed}" for seed in seeds), "mean"], rows)


def _curve(report: Report) -> Table:
    """The mean of the primary score along the training in per cent, of arms with all seeds."""
    means, seeds = curve_means(report), report["experiment"]["seeds"]
    steps = sorted({step for curve in means.values() for step in curve})
    rows = [
        [name, *(f"{100 * curve[step]:.1f}" if step in curve else "-" for step in steps)]
        for name, curve in means.items()
    ]
    return Table([f"arm, mean over {len(seeds)} seeds after", *(f"{step:,d}" for step in steps)], rows)


def _threshold(report: Report) -> Table:
    """The verdicts by the threshold, share of seeds and time; the name of a longer baseline tells the budget."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for verdict in threshold_verdicts(report):
        if verdict["difference"] is not None:
            found.setdefault((verdict["arm"], verdict["baseline"]), {})[verdict["measure"]] = verdict
    rows = []
    for (arm, baseline), by_measure in found.items():
        share, time = by_measure["share of seeds"], by_measure["time"]
        hits, n_seeds = share["difference"], share["difference"]["n_seeds"]
        rows.append(
            [
                arm,
                baseline,
                f"{hits['arm_hits']} of {n_seeds}",
                f"{hits['baseline_hits']} of {n_seeds}",
                p_in_words(share["adjusted_p_value"]),
                share["outcome"],
                time_in_words(time["difference"]["arm_median"], time["difference"]["unit"]),
                time_in_words(time["difference"]["baseline_median"], time["difference"]["unit"]),
                p_in_words(time["adjusted_p_value"]),
                time["outcome"],
            ]
        )
    threshold = f"reach {100 * report['experiment']['threshold']:g} %"
    heading = [f"arm, seeds that {threshold}", "baseline", "arm's", "baseline's", "p (Holm)", "verdict"]
    return Table([*heading, "median time", "baseline's", "p (Holm)", "verdict"], rows)


def _cost(report: Report) -> Table:
    """What training cost, without seconds."""
    return _named(_without(cost_table(report), ["seconds"]), "cost of training")


def _verdicts(report: Report, budget: str) -> Sequence[Mapping[str, Any]]:
    return list(report["comparisons"][budget].get(report["experiment"]["primary_score"], {}).values())


def _budget(report: Report, budget: str) -> str:
    """As within a sentence."""
    title = budget_title(report, budget)
    return f"{title[0].lower()}{title[1:]}"


def _without(table: Table, columns: Sequence[str]) -> Table:
    kept = [place for place, name in enumerate(table.heading) if name not in columns]
    heading, *rows = ([line[place] for place in kept] for line in (table.heading, *table.rows))
    return Table(heading, rows)


def _named(table: Table, part: str) -> Table:
    return Table([f"{table.heading[0]}, {part}", *table.heading[1:]], table.rows)


def _drawn(svg: str | None) -> str:
    assert svg is not None, "nothing to draw is finished"
    return svg
