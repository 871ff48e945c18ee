"""What a recipe will cost: tokens, FLOPs, memory, hours, money; no weights are loaded, no GPU is touched."""

import argparse
import dataclasses
import json
import logging
import sys
from contextlib import redirect_stdout

import datasets
import torch
import transformers
from rich.console import Console
from rich.table import Table

from llm_jepa.cli import plan_vision
from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.plan_latency import repayment, show_repayment
from llm_jepa.cli.progress import stages
from llm_jepa.cli.tables import table_of
from llm_jepa.compute.devices import GIB, GPU, TERA, find_gpu, recognise_gpu
from llm_jepa.evaluation.latency import hardware_of
from llm_jepa.planning.break_even import check_same_hardware
from llm_jepa.planning.calibration import calibrate
from llm_jepa.planning.changes import Change, changes_that_fit
from llm_jepa.planning.estimate import Estimate, break_even_requests
from llm_jepa.planning.figures import draw_break_even
from llm_jepa.planning.memory import Launch
from llm_jepa.planning.plan import FITS, THIS_RECIPE, Plan, make_plan
from llm_jepa.planning.workload import SFT, with_arm
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe


def run(args: argparse.Namespace) -> int:
    gpu = None if args.gpu is None else find_gpu(args.gpu)
    if args.calibrate and gpu is not None and not _is_here(gpu):
        raise ValueError(f"`--calibrate` measures this machine, which has no {args.gpu}. Give one of the two.")
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    launch: Launch = args.launch or ("single" if args.gpus == 1 else "multi-gpu")
    logging.getLogger("llm_jepa").setLevel(logging.WARNING)  # of each arm, its layout
    with redirect_stdout(sys.stderr):
        recipe = parse_any_recipe([args.recipe, *args.overrides])
    if isinstance(recipe, VisionRecipe):
        return plan_vision.run(args, recipe)
    with stages() as begin, redirect_stdout(sys.stderr):  # TRL's log of a calibration too: stdout is the plan's
        if args.latency is not None and gpu is None and args.serving_price_per_hour is None:
            check_same_hardware(hardware_of(recipe.training.device), args.latency_report.hardware)
        timed = []
        for name, one in ((THIS_RECIPE, recipe), (SFT, with_arm(recipe, SFT))) if args.calibrate else ():
            begin(f"training the first steps of {name}")
            timed.append(calibrate(one))
        plan = make_plan(recipe, gpu, args.gpus, launch, *timed, begin=begin)
        changes: list[Change] = []
        if gpu is not None and plan.verdict != FITS:
            begin("looking for changes after which it fits")
            changes = changes_that_fit(recipe, gpu, args.gpus, launch)
    money, repaid = _money(plan, args), None if args.latency is None else repayment(plan, args)
    console = new_console(soft_wrap=True, highlight=False)
    if args.json:
        content = dataclasses.asdict(plan) | {"changes": [dataclasses.asdict(one) for one in changes], "money": money}
        console.print_json(json.dumps(content | {"repayment": repaid}, default=dataclasses.asdict))
    else:
        _show(console, plan, changes, money, args)
    if repaid is not None:
        path = args.latency.with_suffix(".svg")
        if repaid.ways:
            draw_break_even(repaid.extra_seconds, repaid.ways, path)
        if not args.json:
            show_repayment(console, repaid, args, path)
    return 0


def _is_here(gpu: GPU) -> bool:
    return torch.cuda.is_available() and recognise_gpu(torch.cuda.get_device_name()) is gpu


def _money(plan: Plan, args: argparse.Namespace) -> dict[str, Estimate]:
    own, sft = plan.arms[THIS_RECIPE].hours, plan.arms[SFT].hours
    if args.price_per_hour is None or own is None or sft is None:
        return {}
    price = args.price_per_hour * args.gpus
    cost, sft_cost = own.times(price), sft.times(price)
    extra = cost.minus(sft_cost)
    money = {"cost": cost, "cost_over_sft": extra}
    if args.request_seconds is not None:
        money["break_even_requests"] = break_even_requests(extra, args.request_seconds, args.price_per_hour, args.gain)
    return money


def _show(
    console: Console,
    plan: Plan,
    changes: list[Change],
    money: dict[str, Estimate],
    args: argparse.Namespace,
) -> None:
    counted = " (counted on a sample)" if plan.is_sample else ""
    console.print(f"rows: {plan.rows:,}{counted}, steps: {plan.steps:,}")
    console.print("tokens a row: " + ", ".join(f"{name} {mean:.1f}" for name, mean in plan.view_tokens.items()))
    console.print(f"layout: {plan.layout}", markup=False)
    scored = "the labelled positions alone, as on GPUs" if plan.scores_labels_only else "all positions, as on CPUs"
    console.print(f"SFT's head scores {scored}")
    console.print(_arm_table(plan))
    for name, reason in plan.left_out.items():
        console.print(f"arm {name} is left out, training would refuse it: {reason}", markup=False)
    console.print(_memory_table(plan))
    peak = _range(plan.memory.peak.times(1 / GIB), ".2f")
    console.print(f"together: {peak} GiB (a usual micro-batch / the largest drawn / the longest rows in one)")
    for name, num_bytes in plan.activation_bytes.items():
        console.print(f"activations in the layout {name}: {num_bytes / GIB:.2f} GiB")
    if plan.verdict is not None:
        looked_at = " (by the rows of the sample)" if plan.is_sample else ""
        console.print(f"on {args.gpus} x {args.gpu}: [bold]{plan.verdict}[/]{looked_at}")
    if changes:
        console.print("what would make it fit, cheapest first:")
        for change in changes:
            console.print(f"  {_change(change)}", markup=False)
    elif plan.verdict == "does not fit":
        console.print(
            "no change of micro-batch, sharding, checkpointing, view or LoRA is enough: take more or larger GPUs"
        )
    hours = plan.arms[THIS_RECIPE].hours
    if hours is None:
        console.print("for hours: `--gpu NAME`, or `--calibrate` on this machine")
    else:
        console.print(f"hours of {THIS_RECIPE}: {_range(hours, '.3g')} (low / expected / high)")
    for name, estimate in money.items():
        console.print(f"{name.replace('_', ' ')}: {_range(estimate, ',.2f' if 'cost' in name else ',.0f')}")


def _change(change: Change) -> str:
    settings = " ".join(f"--{key} {str(value).lower()}" for key, value in change.settings.items())
    what = " ".join(part for part in (f"--launch {change.launch}", settings) if part)
    note = "" if change.keeps_result else "; trains something else"
    return f"{what}: {change.peak_bytes / GIB:.1f} GiB, {change.flops_ratio:.2f} x the FLOPs{note}"


def _arm_table(plan: Plan) -> Table:
    headings = ("tokens", "no-grad", "TFLOP/step", "to SFT", "hours")
    table = table_of(headings, title="arms (tokens a row, hours as expected)")
    for name, arm in plan.arms.items():
        hours = "-" if arm.hours is None else f"{arm.hours.expected:.3g}"
        tokens = f"{arm.tokens_per_row:.1f}", f"{arm.detached_tokens_per_row:.1f}"
        table.add_row(name, *tokens, f"{arm.flops_per_step / TERA:.3f}", f"{arm.ratio:.2f}", hours)
    return table


def _memory_table(plan: Plan) -> Table:
    table = table_of(["GiB"], title="memory of one device at its peak")
    for kind, num_bytes in plan.memory.by_kind.items():
        table.add_row(kind, f"{num_bytes / GIB:.2f}")
    return table


def _range(estimate: Estimate, form: str) -> str:
    return " / ".join(format(value, form) for value in (estimate.low, estimate.expected, estimate.high))
