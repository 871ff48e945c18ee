"""Times the stages of runs on pictures and questions as `llm-jepa latency` does, those of all runs by turns.

    python benchmarks/vl_latency.py RUN [RUN ...] --output latency.json [--rows 100]

One process: each row goes through every stage of every run in an order that rotates. Prints a Markdown table for each
run: its stages, then its ways to answer, each the sum of its stages.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_jepa.evaluation.vision import load_held_out
from llm_jepa.evaluation.vision_latency import (
    EmbeddingStages,
    TokenStages,
    VisionLatencyReport,
    measure_side_by_side,
    stages_of,
)
from llm_jepa.files.atomic import write_json
from llm_jepa.models.subject_checks import recipe_of
from llm_jepa.vision.building import load_run_model
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="output directories of runs on one data set")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--rows", type=int, default=100, metavar="N", help="held-out rows (default: 100)")
    args = parser.parse_args()
    runs = {run.name: _stages_of(run, args.rows) for run in args.runs}
    reports = measure_side_by_side(runs, lambda number: print(".", end="", flush=True))
    for name, report in reports.items():
        print(f"\n\n{name}\n\n{_table(report)}")
    write_json({name: asdict(report) for name, report in reports.items()}, args.output)


def _stages_of(run: Path, max_rows: int) -> tuple[VisionRecipe, EmbeddingStages | TokenStages]:
    found = recipe_of(str(run), [])
    assert found is not None, f"{run} is no run"
    recipe = parse_any_recipe([str(found[0]), *found[1]])
    assert isinstance(recipe, VisionRecipe), f"{run} is no run on pictures"
    model: Any = load_run_model(recipe.output_dir, recipe.training)
    model = model.to(recipe.training.device).eval()
    return recipe, stages_of(model, load_held_out(recipe, model.processor, None, max_rows))


def _table(report: VisionLatencyReport) -> str:
    lines = ["| | ms (quartiles) | right |", "|---|---|---|"]
    for name, one in (*report.stages.items(), *report.answers.items()):
        low, middle, high = (1000 * value for value in one["seconds_per_answer"])
        right = f"{one['right']} of {one['answers']}" if "right" in one else ""
        lines.append(f"| {name} | {middle:.2f} ({low:.2f}-{high:.2f}) | {right} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
