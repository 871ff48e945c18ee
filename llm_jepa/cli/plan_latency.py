"""`llm-jepa plan --latency`: after how many requests the extra seconds of training are repaid."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from llm_jepa.evaluation.latency_report import LatencyReport
from llm_jepa.planning.break_even import BreakEven, break_evens, extra_training_seconds
from llm_jepa.planning.estimate import UTILISATION, Estimate
from llm_jepa.planning.plan import THIS_RECIPE, Plan
from llm_jepa.planning.workload import SFT


@dataclass(frozen=True)
class Repayment:
    """What training costs over SFT, and when each way has repaid it.

    Attributes:
        extra_seconds: Of the device that answers.
        known_by: How the seconds of training are known.
        ways: The ways that use the latent predictor; none if the file has none.
    """

    extra_seconds: Estimate
    known_by: str
    ways: Sequence[BreakEven]


def repayment(plan: Plan, args: argparse.Namespace) -> Repayment:
    """The repayment of a plan that has hours."""
    own, sft = plan.arms[THIS_RECIPE].hours, plan.arms[SFT].hours
    assert own is not None
    assert sft is not None
    known_by = "steps of both timed on this machine"
    if not args.calibrate:
        shares = " / ".join(f"{100 * share:.0f}" for share in UTILISATION)
        known_by = f"counted FLOPs at {shares} % of the peak of {args.gpu}"
    ratio = 1.0
    if args.serving_price_per_hour is not None:
        ratio = args.price_per_hour / args.serving_price_per_hour
        known_by += f"; a second of it costs as much as {ratio:.3g} of the device that answers"
    extra_seconds = extra_training_seconds(own, sft, args.gpus, ratio)
    return Repayment(extra_seconds, known_by, break_evens(extra_seconds, args.latency_report.ways))


def show_repayment(console: Console, found: Repayment, args: argparse.Namespace, figure: Path) -> None:
    """Print the repayment, a sentence for each way."""
    report: LatencyReport = args.latency_report
    extra = found.extra_seconds
    values = " / ".join(f"{value:,.3g}" for value in (extra.low, extra.expected, extra.high))
    console.print(f"seconds of training over SFT: {values} ({found.known_by})", markup=False)
    console.print(f"answers: {report.requests} requests on {report.hardware}, {report.dtype}", markup=False)
    for one in found.ways:
        console.print(_sentence(one, report), markup=False)
    if found.ways:
        console.print(f"figure: {figure}", markup=False)
    else:
        console.print("never repaid: the run has no way to answer that uses a latent predictor")


def _sentence(one: BreakEven, report: LatencyReport) -> str:
    own, other = (f"{1000 * seconds:.4g} ms" for seconds in (one.seconds, one.baseline_seconds))
    rights = [report.ways[name]["right"] for name in (one.way, one.baseline)]
    beside = (
        f"a request takes {own}, by {one.baseline}, the fastest ordinary way, {other}; right {rights[0]} and "
        f"{rights[1]} of {report.requests}"
    )
    if one.requests is None:
        return f"{one.way} never repays it: {beside}"
    if one.requests.high == 0:
        return f"{one.way} has nothing to repay: {beside}"
    low, expected, high = (f"{value:,.0f}" for value in (one.requests.low, one.requests.expected, one.requests.high))
    return f"{one.way} repays it after {low} / {expected} / {high} requests: {beside}"
