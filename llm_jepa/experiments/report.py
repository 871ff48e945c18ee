"""The content of a comparison's report: sections of sentences, tables and figures, made from its JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_jepa.experiments.curve_figures import loss_figure, score_figure
from llm_jepa.experiments.figures import differences_figure, parameters_figure, scores_figure
from llm_jepa.experiments.spec import settings_in_words
from llm_jepa.experiments.tables import (
    Table,
    cost_table,
    differences_table,
    other_scores_table,
    scores_table,
    search_table,
)

TITLES = {
    "equal_steps": "At equal steps",
    "equal_flops": "At equal FLOPs",
}
NOTES = {
    "equal_steps": "Every arm trains as long as the recipe says.",
    "equal_flops": "The baseline trains as many FLOPs as the arm, on a longer schedule of its own.",
}
COSTLIEST_TITLE = "At the costliest arm's FLOPs"
COSTLIEST_NOTE = (
    "The baseline trains as many FLOPs as the costliest of its arms, on a longer schedule. Cheaper arms are held "
    "against more FLOPs than they had."
)
SCORES_NOTE = (
    "Mean over seeds in percent, with its 95 % interval (Wilson's) over seeds and test rows, both drawn anew, or with "
    "one seed over the rows alone, and the embeddings at the end of training. An unpaired cosine near the paired one, "
    "or an effective rank near 1, means collapse."
)
COST_NOTE = "FLOPs count an objective's own networks; trained parameters are those of the model, without them."


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        verdicts: Outcome and sentence of each claim.
        figures: SVG and caption.
    """

    title: str
    notes: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, str]] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def budget_title(report: Mapping[str, Any], budget: str) -> str:
    """What a comparison holds equal."""
    is_costliest = budget == "equal_flops" and report["experiment"].get("equal_flops") == "costliest_arm"
    return COSTLIEST_TITLE if is_costliest else TITLES[budget]


def report_title(report: Mapping[str, Any]) -> str:
    """The report's title."""
    return f"Does it help? {report['experiment']['name']}"


def report_sections(report: dict[str, Any]) -> list[Section]:
    """All sections of a report, the verdicts first."""
    return [
        *(_verdict_section(report, budget) for budget in report["comparisons"]),
        *_threshold_sections(report),
        Section("Protocol", protocol(report), tables=[search_table(report)] if report["experiment"]["search"] else []),
        _scores_section(report),
        *_curve_sections(report),
        _cost_section(report),
    ]


def protocol(report: Mapping[str, Any]) -> list[str]:
    """How the comparison was made, in sentences."""
    experiment = report["experiment"]
    seeds = ", ".join(map(str, experiment["seeds"]))
    return [
        *report["changes"],
        f"Recipe {experiment['recipe']}, baseline {experiment['baseline']}, paired seeds {seeds}.",
        f"The verdicts are by `{experiment['primary_score']}` alone and are one family under Holm's correction. The "
        "other scores are descriptive: nothing is claimed from them.",
        "Intervals are 95 % over seeds and test rows, drawn anew, of each comparison by itself. Holm's correction is "
        "in p alone: an interval can lie on one side of 0 where no difference is found.",
        *_search(report),
        *_rows(report),
        *_unfinished(report),
    ]


def _search(report: Mapping[str, Any]) -> list[str]:
    search = report["experiment"]["search"]
    if search is None:
        set_by_arms = "; ".join(
            f"{arm}: {settings_in_words(facts['settings'])}"
            for arm, facts in report["arms"].items()
            if facts["settings"]
        )
        return [f"No search on a dev split. The arms set, over the recipe: {set_by_arms}."]
    longer = "searches its grid too" if search["longer_baseline"] == "search" else "inherits the baseline's settings"
    return [
        f"Searched on {search['split']} with seed {search['seed']}, which no arm is compared with. The best "
        f"`{report['experiment']['primary_score']}` is chosen, of equal ones the first; a point that diverged loses.",
        f"The longer baseline of equal FLOPs {longer}.",
    ]


def _rows(report: Mapping[str, Any]) -> list[str]:
    """What is known about the rows: those left out, and those that two splits share."""
    experiment = report["experiment"]
    excluded, rows = experiment["excluded_rows"], experiment["rows"]
    dropped = ", ".join(f"{arm} {facts['dropped_rows']}" for arm, facts in report["arms"].items())
    sentences = [f"All arms train on {rows - excluded} rows."]
    if excluded:
        sentences.append(f"{excluded} more are dropped for all, since some arm would drop them ({dropped}).")
    sentences += [f"Overlap: {sentence}" for sentence in experiment["overlap"]]
    reasons: dict[str, int] = {}
    for series in report["series"].values():
        for left_out in series["left_out"].values():
            for reason, number in left_out.items():
                reasons[reason] = max(reasons.get(reason, 0), number)
    return sentences + [
        f"{number} test rows are left out of the task's own scores, since their gold cannot be scored by: {reason}"
        for reason, number in reasons.items()
    ]


def _unfinished(report: Mapping[str, Any]) -> list[str]:
    missing = len(report["missing"])
    sizes = sorted({size for series in report["series"].values() for size in series["eval_batch_sizes"]})
    sentences = [f"INCOMPLETE: {missing} cells have no scores."] if missing else []
    if len(sizes) > 1:
        sentences.append(f"Cells were evaluated in batches of {sizes}, whose texts differ by rounding.")
    if len(report["commits"]) > 1:
        commits = ", ".join(f"{number} of {commit}" for commit, number in report["commits"].items())
        sentences.append(f"Cells are of several commits of the toolkit: {commits}.")
    return sentences + report["refused"]


def _verdict_section(report: dict[str, Any], budget: str) -> Section:
    primary = report["experiment"]["primary_score"]
    verdicts = list(report["comparisons"][budget].get(primary, {}).values())
    figure = differences_figure(report, budget)
    caption = "Difference to the baseline for each seed; mean and 95 % interval over seeds and rows."
    title = budget_title(report, budget)
    others = other_scores_table(report, budget)
    return Section(
        title,
        [COSTLIEST_NOTE if title == COSTLIEST_TITLE else NOTES[budget]],
        [(verdict["outcome"], verdict["sentence"]) for verdict in verdicts],
        [] if figure is None else [(figure, caption)],
        [differences_table(verdicts), *([others] if others.rows and len(others.heading) > 1 else [])],
    )


def _threshold_sections(report: Mapping[str, Any]) -> list[Section]:
    experiment = report["experiment"]
    if experiment["threshold"] is None:
        return []
    section = Section(
        f"Reaching {100 * experiment['threshold']:g} % {experiment['primary_score']}",
        [
            "A seed reaches it if any evaluation along its training does, also by chance of the test rows. The share "
            "of seeds is compared by Fisher's exact test, the time by a log-rank test. Runs evaluated at different "
            "times, as at equal FLOPs, are judged at the times of the one evaluated less often, by one evaluation "
            "each: the last one before, and once more the first one after; the larger p value counts."
        ],
        [
            (
                verdict["outcome"],
                f"{budget_title(report, verdict['budget'])}, {verdict['measure']}. {verdict['sentence']}",
            )
            for verdict in threshold_verdicts(report)
        ],
    )
    return [section]


def threshold_verdicts(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdicts by the threshold, in the order of measures, budgets and contrasts."""
    return [
        verdict
        for by_budget in report["by_threshold"].values()
        for by_contrast in by_budget.values()
        for verdict in by_contrast.values()
    ]


def _scores_section(report: dict[str, Any]) -> Section:
    drawn = [
        (scores_figure(report), "Every arm's score for each seed, and their mean."),
        (
            parameters_figure(report),
            "The same by trained parameters. A line joins arms that differ in depth or model alone.",
        ),
    ]
    figures = [(svg, caption) for svg, caption in drawn if svg is not None]
    return Section("Scores and embeddings", [SCORES_NOTE], [], figures, [scores_table(report)])


def _curve_sections(report: dict[str, Any]) -> list[Section]:
    primary = report["experiment"]["primary_score"]
    drawn = [
        (loss_figure(report), "Loss by step"),
        (score_figure(report, "rows"), f"`{primary}` by rows trained on"),
        (score_figure(report, "FLOPs"), f"`{primary}` by FLOPs of training"),
    ]
    figures = [
        (svg, f"{what}: a thin line for each seed, a thick one for their mean.")
        for svg, what in drawn
        if svg is not None
    ]
    return [Section("Along the training", figures=figures)] if figures else []


def _cost_section(report: Mapping[str, Any]) -> Section:
    has_own_networks = report["experiment"].get("kind") != "vision"
    return Section("Cost of training", [COST_NOTE] if has_own_networks else [], tables=[cost_table(report)])
