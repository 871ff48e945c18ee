"""The peak of memory that `llm-jepa plan` foretells for what measure.py measures; needs no GPU.

python benchmarks/gpu/planned_memory.py OUTPUT.json [--dry]
"""

import argparse
import functools
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # where step_cost.py lies
import step_cost  # noqa: E402
from arms import ARMS, BASELINE, synthetic_rows  # noqa: E402
from scenarios import GROUPS, Scenario, in_small  # noqa: E402
from shapes import SHAPES, write_model  # noqa: E402

from llm_jepa.planning.plan import plan_memory  # noqa: E402
from llm_jepa.planning.workload import draw_workload  # noqa: E402
from llm_jepa.recipe import build_recipe  # noqa: E402

LORA = {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_target_modules": "all-linear", "dtype": "bfloat16"}
UNPLANNED = ("--use_liger_kernel", "--torch_compile_backend", "flash_attention_2")
"""Flags of scenarios whose memory the planner knows nothing of."""


def main() -> None:
    """Plan every arm of every scenario, and write after each scenario: name -> arm -> bytes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    step_cost.silence()
    planned: dict[str, dict[str, float]] = {}
    for scenario in (one for group in GROUPS.values() for one in group):
        if set(UNPLANNED).isdisjoint(scenario.flags):
            planned[scenario.name] = planned_bytes(plannable(in_small(scenario) if options.dry else scenario))
            print(scenario.name, {arm: f"{number / 2**30:.2f} GiB" for arm, number in planned[scenario.name].items()})
            options.output.write_text(json.dumps(planned, indent=1) + "\n", encoding="utf-8")


def plannable(scenario: Scenario) -> Scenario:
    """The scenario with what its memory depends on; FlexAttention is planned as sdpa."""
    flags = tuple(flag for flag in scenario.flags if flag == "--gradient_checkpointing")
    return replace(scenario, name="", device="cpu", rounds=1, flags=flags)


@functools.cache
def planned_bytes(scenario: Scenario) -> dict[str, float]:
    """The expected peak of each arm; its rows are all alike, so that every micro-batch is."""
    with tempfile.TemporaryDirectory() as directory:
        model = write_model(scenario.shape, Path(directory, "model"))
        options = step_cost.parse_options(scenario.arguments(model, "unused.json"))
        (point,) = step_cost.points(options)
        peaks = {}
        for arm in scenario.arms:
            rows = Path(directory, f"{arm}.jsonl")
            shares_prefix = ARMS[arm].get("jepa_source_view") == "prefix"
            vocabulary_tokens = SHAPES[scenario.shape]["vocab_size"]
            synthetic_rows(point, vocabulary_tokens, shares_prefix).select(range(scenario.batch_size)).to_json(rows)
            paths = {"model_name_or_path": model, "dataset_name": str(rows), "output_dir": str(Path(directory, "run"))}
            recipe = build_recipe(Path("recipe.yaml"), paths | settings(scenario, arm))
            peaks[arm] = plan_memory(draw_workload(recipe, "single", True), "single", 1).peak.expected
        return peaks


def settings(scenario: Scenario, arm: str) -> dict[str, Any]:
    """Of the recipe that is planned; TRL's trainer is planned as the arm without the term."""
    return {
        "per_device_train_batch_size": scenario.batch_size,
        "attn_implementation": "sdpa",
        "gradient_checkpointing": "--gradient_checkpointing" in scenario.flags,
        "bf16": True,
        "max_length": None,
        "report_to": "none",
        **(LORA if scenario.method == "lora" else {}),
        **({"jepa_weight": 0.0} if arm == BASELINE else ARMS[arm]),
    }


if __name__ == "__main__":
    main()
