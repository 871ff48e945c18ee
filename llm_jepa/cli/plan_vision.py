"""What a recipe of VL-JEPA will cost: parameters of each part, tokens, FLOPs, memory, hours."""

import argparse
import dataclasses
import json
import sys
from contextlib import redirect_stdout

from rich.console import Console

from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import stages
from llm_jepa.cli.tables import table_of
from llm_jepa.compute.devices import GIB, TERA, find_gpu
from llm_jepa.planning.memory import Launch
from llm_jepa.planning.vision import VisionPlan, make_vision_plan
from llm_jepa.vision.recipe import VisionRecipe

MILLION = 10**6


def run(args: argparse.Namespace, recipe: VisionRecipe) -> int:
    gpu = None if args.gpu is None else find_gpu(args.gpu)
    launch: Launch = args.launch or ("single" if args.gpus == 1 else "multi-gpu")
    with stages() as begin, redirect_stdout(sys.stderr):
        begin("computing a step without data")
        plan = make_vision_plan(recipe, gpu, args.gpus, launch)
    if args.json:
        new_console(soft_wrap=True, highlight=False).print_json(json.dumps(dataclasses.asdict(plan)))
    else:
        _show(new_console(highlight=False, soft_wrap=True), plan, args)
    return 0


def _show(console: Console, plan: VisionPlan, args: argparse.Namespace) -> None:
    console.print(f"rows: {plan.rows:,}, steps: {plan.steps:,}")
    texts = {"question": plan.question_tokens, "answer": plan.answer_tokens}
    shown = ", ".join(f"{name} {mean:.1f} (at most {most})" for name, (mean, most) in texts.items())
    console.print(f"tokens a row: image {plan.visual_tokens}, {shown}")
    parts = table_of(("all", "trained"), title="parameters in millions")
    for name, part in plan.parts.items():
        parts.add_row(name, f"{part.parameters / MILLION:.1f}", f"{part.trained / MILLION:.1f}")
    total, trained = (sum(getattr(one, key) for one in plan.parts.values()) for key in ("parameters", "trained"))
    parts.add_row("together", f"{total / MILLION:.1f}", f"{trained / MILLION:.1f}")
    console.print(parts)
    memory = table_of(["GiB"], title="memory of one device at its peak")
    for kind, num_bytes in plan.memory.items():
        memory.add_row(kind, f"{num_bytes / GIB:.2f}")
    memory.add_row("together", f"{sum(plan.memory.values()) / GIB:.2f}")
    console.print(memory)
    console.print(f"TFLOP a step: {plan.flops_per_step / TERA:.3f}")
    if plan.verdict is not None and plan.hours is not None:
        console.print(f"on {args.gpus} x {args.gpu}: [bold]{plan.verdict}[/]")
        low, expected, high = plan.hours.low, plan.hours.expected, plan.hours.high
        console.print(f"hours: {low:.3g} / {expected:.3g} / {high:.3g} (low / expected / high)")
    else:
        console.print("for hours: `--gpu NAME`")
