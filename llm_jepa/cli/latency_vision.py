"""Measure how long each stage of a run on pictures and questions takes for one request, by turns."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.progress import bars
from llm_jepa.cli.tables import table_of
from llm_jepa.compute.devices import GIB
from llm_jepa.evaluation.latency_report import FORMAT, REPORT_FILE
from llm_jepa.evaluation.vision import load_held_out
from llm_jepa.evaluation.vision_latency import VisionLatencyReport, measure_vision_latency, stages_of
from llm_jepa.files.atomic import write_json
from llm_jepa.inference.candidates import read_answers
from llm_jepa.vision.building import load_run_model
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe


def run(args: argparse.Namespace, path: Path, overrides: list[str]) -> int:
    recipe = parse_any_recipe([str(path), *overrides])
    assert isinstance(recipe, VisionRecipe)
    if args.max_new_tokens is not None and recipe.training.answer_form == "embedding":
        raise ValueError("`--max_new_tokens` has no effect on a run of VL-JEPA, which writes no text. Leave it out.")
    labels = None if args.labels is None else read_answers(args.labels)
    model: Any = load_run_model(recipe.output_dir, recipe.training)
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    model = model.to(device=recipe.training.device, dtype=dtype).eval()
    held_out = load_held_out(recipe, model.processor, labels, args.max_rows)
    with bars(["rows"], len(held_out.rows)) as advance:
        stages = stages_of(model, held_out, args.max_new_tokens)
        report = measure_vision_latency(recipe, stages, lambda number: advance("rows", number))
    output = args.output or recipe.output_dir / REPORT_FILE
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json({"format": FORMAT, **asdict(report)}, output)
    _show(new_console(highlight=False), report)
    new_console(highlight=False).print(f"{recipe.output_dir}\nfigures: {output}", soft_wrap=True, markup=False)
    return 0


def _show(console: Console, report: VisionLatencyReport) -> None:
    table = table_of(("ms (quartiles)", "right"))
    for name, one in report.stages.items():
        table.add_row(name, _milliseconds(one))
    table.add_section()
    for name, one in report.answers.items():
        table.add_row(name, _milliseconds(one), f"{one['right']}/{one['answers']}")
    console.print(table)
    for name, one in report.answers.items():
        console.print(f"{name}: {' + '.join(one['stages'])}", soft_wrap=True)
    console.print(
        f"{report.requests:,} requests, one at a time, of {report.candidates:.1f} candidates; {report.hardware}, "
        f"{report.dtype}",
        soft_wrap=True,
    )
    console.print(f"peak memory: {report.peak_memory_bytes / GIB:.2f} GiB", soft_wrap=True)


def _milliseconds(figures: Mapping[str, Any]) -> str:
    low, middle, high = (1000 * value for value in figures["seconds_per_answer"])
    decimals = 0 if middle >= 10 else 2  # a ranking takes less than a millisecond
    return f"{middle:.{decimals}f} ({low:.{decimals}f}-{high:.{decimals}f})"
