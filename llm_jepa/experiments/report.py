"""Renders a comparison's JSON as Markdown and as a self-contained HTML page with figures."""

import html
from typing import Any

from llm_jepa.experiments.figures import differences_figure, scores_figure

TITLES = {
    "equal_steps": "At equal steps",
    "equal_flops": "At equal FLOPs (the baseline trains on a longer schedule of its own)",
}
SCORES_NOTE = "Mean over seeds, with its 95 % Wilson interval as a share of the test rows."
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1.05rem; }
table { border-collapse: collapse; margin: .8rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .9rem; }
.verdict { border-left: 4px solid #888; padding: .4rem .9rem; margin: .6rem 0; background: #f6f6f6; }
.better { border-color: #1a7f37; } .worse { border-color: #b42318; } .open { border-color: #9a6700; }
"""
_CLASSES = {"better": "better", "worse": "worse", "too few to tell": "open", "incomplete": "open"}

Table = tuple[list[str], list[list[str]]]


def render_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    blocks = [f"# {_title(report)}", _protocol(report)]
    for budget, verdicts in _primary_verdicts(report).items():
        blocks += [f"## {TITLES[budget]}", "\n".join(f"- {verdict['sentence']}" for verdict in verdicts)]
        blocks += [_markdown_table(_differences_table(report, budget))]
    blocks += ["## Scores", SCORES_NOTE, _markdown_table(_scores_table(report))]
    blocks += ["## Cost of training", _markdown_table(_cost_table(report))]
    return "\n\n".join(blocks) + "\n"


def render_html(report: dict[str, Any]) -> str:
    """The report as one HTML page that includes its style and figures."""
    parts = [f"<h1>{html.escape(_title(report))}</h1>", f"<p>{html.escape(_protocol(report))}</p>"]
    for budget, verdicts in _primary_verdicts(report).items():
        parts.append(f"<h2>{html.escape(TITLES[budget])}</h2>")
        for verdict in verdicts:
            css_class = _CLASSES.get(verdict["outcome"], "")
            parts.append(f'<p class="verdict {css_class}">{html.escape(verdict["sentence"])}</p>')
        figure = differences_figure(report, budget)
        if figure is not None:
            parts.append(
                _figure(
                    figure, "Difference to the baseline for each seed; mean and 95 % interval over seeds and rows."
                )
            )
        parts.append(_html_table(_differences_table(report, budget)))
    parts.append(f"<h2>Scores</h2>\n<p>{SCORES_NOTE}</p>")
    figure = scores_figure(report)
    if figure is not None:
        parts.append(_figure(figure, "Every arm's score for each seed, and their mean."))
    parts += [_html_table(_scores_table(report)), "<h2>Cost of training</h2>", _html_table(_cost_table(report))]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{html.escape(_title(report))}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _title(report: dict[str, Any]) -> str:
    return f"Does JEPA help? {report['experiment']['name']}"


def _protocol(report: dict[str, Any]) -> str:
    experiment = report["experiment"]
    seeds = ", ".join(map(str, experiment["seeds"]))
    text = (
        f"Recipe {experiment['recipe']}, baseline {experiment['baseline']}, paired seeds {seeds}; the verdicts are by "
        f"the score `{experiment['primary_score']}` alone and are one family under Holm's correction. The other "
        "scores are descriptive: nothing is claimed from them. Intervals are over seeds and test rows, drawn anew."
    )
    return " ".join([text, _search(experiment), *_rows(report), *_unfinished(report)])


def _search(experiment: dict[str, Any]) -> str:
    search = experiment["search"]
    if search is None:
        return "Nothing was searched: every arm has the settings of its recipe."
    grids = "; ".join(
        f"{arm}: {', '.join(f'{key} in {values}' for key, values in grid.items())}"
        for arm, grid in search["grids"].items()
    )
    longer = "searches its grid too" if search["longer_baseline"] == "search" else "inherits the baseline's settings"
    return f"Searched on {search['split']} with the first seed: {grids}. The longer baseline of equal FLOPs {longer}."


def _rows(report: dict[str, Any]) -> list[str]:
    """What is known about the rows: those left out, and those that two splits share."""
    experiment = report["experiment"]
    excluded, rows = experiment["excluded_rows"], experiment["rows"]
    dropped = ", ".join(f"{arm} {facts['dropped_rows']}" for arm, facts in report["arms"].items())
    sentences = [f"All arms train on {rows - excluded} rows."]
    if excluded:
        sentences.append(f"{excluded} more are dropped for all, since some arm would drop them ({dropped}).")
    return [*sentences, *(f"Overlap: {sentence}" for sentence in experiment["overlap"])]


def _unfinished(report: dict[str, Any]) -> list[str]:
    missing = len(report["missing"])
    sizes = sorted({size for series in report["series"].values() for size in series["eval_batch_sizes"]})
    sentences = [f"INCOMPLETE: {missing} cells are not finished."] if missing else []
    if len(sizes) > 1:
        sentences.append(f"Cells were evaluated in batches of {sizes}, whose texts differ by rounding.")
    return sentences + report["refused"]


def _primary_verdicts(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    primary = report["experiment"]["primary_score"]
    return {budget: list(by_score.get(primary, {}).values()) for budget, by_score in report["comparisons"].items()}


def _differences_table(report: dict[str, Any], budget: str) -> Table:
    """One row for each score and arm: difference and intervals in points (hundredths), p value, outcome."""
    heading = ["score", "arm", "baseline", "difference", "95 %", "seeds alone", "rows alone", "p (Holm)", "verdict"]
    rows = []
    for score, by_arm in report["comparisons"][budget].items():
        for arm, verdict in by_arm.items():
            figures = ["-"] * 5
            if (difference := verdict["difference"]) is not None:
                p = verdict["adjusted_p_value"]
                figures = [
                    f"{100 * difference['mean']:+.1f}",
                    _interval(difference["interval"]),
                    _interval(difference["seed_interval"]),
                    _interval(difference["row_interval"]),
                    "-" if p is None else f"{p:.3f}",
                ]
            rows.append([score, arm, verdict["baseline"], *figures, verdict["outcome"]])
    return heading, rows


def _scores_table(report: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for series in report["series"].values() for name in series["scores"]))
    rows = []
    for name, series in report["series"].items():
        shown = [_mean(series["scores"].get(score)) for score in names]
        finished = max((score["n_seeds"] for score in series["scores"].values()), default=0)
        rows.append([name, *shown, str(finished)])
    return ["arm", *(f"{name}, %" for name in names), "seeds"], rows


def _cost_table(report: dict[str, Any]) -> Table:
    baseline = report["arms"][report["experiment"]["baseline"]]["cost"]
    rows = []
    for name, series in report["series"].items():
        cost = report["arms"].get(name, {}).get("cost", baseline)
        steps, seconds = series["steps"], series["seconds_mean"]
        ratio = (
            None if steps is None else steps * cost["flops_per_row"] / baseline["steps"] / baseline["flops_per_row"]
        )
        rows.append(
            [
                name,
                "-" if steps is None else str(steps),
                "-" if ratio is None else f"{ratio:.2f}",
                "-" if seconds is None else f"{seconds:.0f}",
            ]
        )
    return ["arm", "steps", "FLOPs over the baseline's", "seconds"], rows


def _interval(interval: dict[str, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval['low']:+.1f} to {100 * interval['high']:+.1f}"


def _mean(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "-"
    low, high = summary["interval"]
    return f"{100 * summary['mean']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _markdown_table(table: Table) -> str:
    heading, rows = table
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html_table(table: Table) -> str:
    heading, rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heading)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
