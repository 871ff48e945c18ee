"""How near `llm-jepa plan --calibrate` comes to the steps that follow: seconds, of the recipe and of its other arms.

    python benchmarks/plan_accuracy.py RECIPE --steps 60 --arms SFT alone --output plan_accuracy.json [--key value ...]

The first 20 steps of the recipe and of SFT calibrate; then each arm trains so many steps, whose mean is compared with
the plan.
Nothing else should run on the machine.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from step_cost_report import commit, hardware, versions

from llm_jepa.planning.calibration import calibrate
from llm_jepa.planning.estimate import SECONDS_PER_HOUR
from llm_jepa.planning.plan import THIS_RECIPE, make_plan
from llm_jepa.planning.workload import SFT, with_arm
from llm_jepa.recipe import parse_recipe


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--steps", type=int, default=60, metavar="N")
    parser.add_argument("--arms", nargs="*", default=[], help="beside the recipe itself")
    parser.add_argument("--output", type=Path, metavar="FILE")
    options, overrides = parser.parse_known_args()
    recipe = parse_recipe([options.recipe, *overrides])
    plan = make_plan(recipe, calibration=calibrate(recipe), sft_calibration=calibrate(with_arm(recipe, SFT)))
    arms: dict[str, dict[str, float]] = {}
    for name in (THIS_RECIPE, *options.arms):
        hours = plan.arms[name].hours
        assert hours is not None, "it is calibrated"
        planned = hours.expected * SECONDS_PER_HOUR / plan.steps
        measured = calibrate(recipe if name == THIS_RECIPE else with_arm(recipe, name), options.steps).seconds_per_step
        arms[name] = {"planned_seconds": planned, "measured_seconds": measured, "ratio": planned / measured}
        Console().print(f"{name}: {planned:.2f} s planned, {measured:.2f} s measured, {planned / measured:.2f}")
    if options.output is not None:
        content: dict[str, Any] = {"hardware": hardware(), "versions": versions(), "commit": commit()}
        content |= {"recipe": Path(options.recipe).name, "overrides": _named(overrides), "steps": options.steps}
        options.output.write_text(json.dumps(content | {"arms": arms}, indent=1) + "\n", encoding="utf-8")


def _named(overrides: list[str]) -> list[str]:
    """Overrides with a path cut down to its name."""
    return [Path(value).name if "/" in value else value for value in overrides]


if __name__ == "__main__":
    main()
