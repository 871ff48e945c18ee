"""benchmarks/gpu: everything that run.sh does on a GPU, done on the CPU in the least sizes, and what pack.sh packs."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llm_jepa.experiments.spec_reading import read_experiment

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "gpu"
sys.path[:0] = [str(GPU.parent), str(GPU)]  # where scripts find their neighbours
measure, scenarios, report, pack_wheels, shapes, arms, planning = map(
    importlib.import_module, ("measure", "scenarios", "report", "pack_wheels", "shapes", "arms", "planning")
)
PARTS = ["environment", "tests", "step_cost", "features", "compiled", "plan", "report"]


def run(python: str, out: Path, *arguments: str) -> subprocess.CompletedProcess:
    """run.sh with a Python, and without a pack, which may be another Python's."""
    environment = os.environ | {"OUT": str(out), "PYTHON": python, "PACK": "none", "OMP_NUM_THREADS": "1"}
    command = ["bash", str(GPU / "run.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def noted(out: Path) -> dict[str, int]:
    """Part -> status."""
    return {one["part"]: one["status"] for one in map(json.loads, (out / "parts.jsonl").read_text().splitlines())}


@pytest.fixture(scope="module")
def dry(tmp_path_factory, python) -> Path:
    """What the dry run has written."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    result = run(python, out, "--dry")
    assert result.returncode == 0, result.stdout + result.stderr
    return out


def test_every_part_ends_well(dry):
    assert noted(dry) == dict.fromkeys(PARTS, 0)


def test_every_scenario_measures_every_arm(dry):
    for group, planned in scenarios.GROUPS.items():
        results = json.loads((dry / f"{group}.json").read_text())
        assert [result["name"] for result in results] == [scenario.name for scenario in planned]
        for result, scenario in zip(results, map(scenarios.in_small, planned), strict=True):
            (table,) = result["report"]["tables"]
            assert list(table["arms"]) == list(scenario.arms)
            assert table["setting"] == {
                "method": scenario.method,
                "batch_size": 2,
                "length": 8,
                "num_predictor_tokens": 1,
            }


def test_the_selected_tests_exist_and_pass(dry):
    cases = list(ElementTree.parse(dry / "tests.xml").iter("testcase"))
    outcomes = [child.tag for case in cases for child in case if child.tag in ("failure", "error", "skipped")]
    assert set(outcomes) == {"skipped"}  # those that need a GPU
    assert len(cases) > len(outcomes)


def test_planned_memory_holds_weights_gradients_and_optimizer(dry):
    """16 bytes a parameter under AdamW in float32; and of two arms the one with more tokens takes more."""
    planned = json.loads((dry / "planned_memory.json").read_text())
    sizes = shapes.SHAPES["tiny"]
    least_parameters = sizes["vocab_size"] * sizes["hidden_size"]
    full = planned["135M, 16 x 512, sdpa"]
    assert min(full.values()) > 16 * least_parameters
    assert full["alone"] > full["prefix_sg"]
    assert set(planned) == {
        scenario.name
        for scenario in scenarios.GROUPS["step_cost"] + scenarios.GROUPS["features"]
        if "--use_liger_kernel" not in scenario.flags
    }


@pytest.mark.parametrize(("dry", "arms"), [(True, 2), (False, 4)])
def test_the_planning_experiment_can_be_read_and_needs_no_more_than_it_has_made(
    dry, arms, tmp_path, monkeypatch, python
):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(planning, "NUM_TRAIN", 64)
    content = planning.write_experiment(tmp_path, dry)
    experiment = read_experiment(tmp_path / "experiment.yaml")
    assert len(experiment.arms) == arms
    assert {Path(experiment.base[key]).parent for key in ("model_name_or_path", "dataset_name")} == {tmp_path}
    assert Path(content["output_dir"]).parent == tmp_path


def test_the_report_has_a_table_for_every_scenario_and_a_row_for_every_part(dry):
    lines = (dry / "report.md").read_text().splitlines()
    names = [scenario.name for group in scenarios.GROUPS.values() for scenario in group]
    assert [line.removeprefix("### ") for line in lines if line.startswith("### ")] == names
    for part in PARTS[:-1]:
        assert any(line.startswith(f"| {part} | ok |") for line in lines), part
    assert sum(line.startswith("| prefix_sg | ") for line in lines) == len(names)


def test_parts_without_time_are_noted_and_the_report_is_written_all_the_same(tmp_path, python):
    result = run(python, tmp_path, "--dry", "--minutes", "0", "--only", "step_cost", "--only", "report")
    assert result.returncode == 1
    assert noted(tmp_path) == {"step_cost": 124, "report": 0}
    assert "| step_cost | out of time | 0 |" in (tmp_path / "report.md").read_text()


def test_a_scenario_that_fails_leaves_its_error():
    flags = ("--attn_implementation", "nonsense", "--no_memory")
    scenario = replace(scenarios.in_small(scenarios.GROUPS["step_cost"][0]), flags=flags)
    result = measure.measured(scenario)
    assert "nonsense" in result["error"]
    assert "Failed: ValueError" in report.scenario(result, {})


def test_an_arm_that_fails_leaves_its_error_and_the_others_are_measured(monkeypatch):
    """Its scheduler is built when training begins, and refuses its argument."""
    broken = {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"nonsense": 1}}
    monkeypatch.setitem(arms.ARMS, "tube", arms.ARMS["tube"] | broken)
    scenario = replace(scenarios.in_small(scenarios.GROUPS["step_cost"][0]), arms=("sft", "tube"), rounds=2)
    result = measure.measured(scenario)
    (table,) = result["report"]["tables"]
    assert list(table["arms"]) == ["sft"]
    assert len(table["arms"]["sft"]["rounds"]) == 2
    assert table["errors"].keys() == {"tube"}
    assert "- tube failed: TypeError" in report.scenario(result, {})


def test_flop_utilisation_is_the_share_of_the_gpus_peak():
    """98.9 TFLOP a second are a tenth of what an H100 multiplies in bf16."""
    summary = {
        "ratio": 1.0,
        "ratio_quartiles": [1.0, 1.0],
        "ratio_to_labelled": None,
        "floor": 1.0,
        "step_seconds": 0.1,
        "tokens_per_second": 80000.0,
        "tflops_per_second": 98.9,
    }
    measured = {"arms": {"sft": {"summary": summary, "peak_memory_bytes": 2**31}}, "errors": {}}
    row = report.table(measured, "NVIDIA H100 80GB HBM3", {"sft": 3 * 2**30}).splitlines()[-1]
    assert row == "| sft | 1.00 (1.00-1.00) | - | 1.00 | 0.100 | 80000 | 10% | 2.00 | 3.00 |"


@pytest.mark.parametrize(
    ("distribution", "name", "is_packed"),
    [
        ("pyarrow", "pyarrow/libarrow.so.2600", True),
        ("pyarrow", "pyarrow/libarrow_python.so.2600", True),
        ("pyarrow", "pyarrow/libarrow_python.so", False),
        ("pyarrow", "pyarrow/libarrow_flight.so.2600", False),
        ("pyarrow", "pyarrow/include/arrow/api.h", False),
        ("bitsandbytes", "bitsandbytes/libbitsandbytes_cuda130.so", True),
        ("bitsandbytes", "bitsandbytes/libbitsandbytes_cuda118.so", False),
        ("trl", "trl-1.16.0.dist-info/METADATA", True),
        ("llm_jepa", "llm_jepa/trainer.py", False),
        ("llm_jepa", "llm_jepa-0.1.0.dist-info/METADATA", True),
    ],
)
def test_what_no_run_needs_is_left_out_of_the_pack(distribution, name, is_packed):
    assert pack_wheels.is_packed(distribution, name) == is_packed


def test_the_pack_has_the_versions_that_the_tests_pass_with():
    def pins(path: Path) -> dict[str, str]:
        return dict(line.split("==") for line in path.read_text().splitlines() if "==" in line)

    packed, tested = pins(GPU / "requirements.txt"), pins(ROOT / "constraints.txt")
    common = packed.keys() & tested.keys()
    assert {"trl", "transformers", "datasets", "peft", "gguf", "bitsandbytes"} <= common
    assert {name: packed[name] for name in common} == {name: tested[name] for name in common}


def test_the_planned_peak_is_what_an_h200_took():
    """Of the 1B on 16 x 512 tokens, as the committed run measured it; a plan that is 5 % too high still fits."""
    planned_memory = importlib.import_module("planned_memory")
    (scenario,) = [one for one in scenarios.GROUPS["step_cost"] if one.name == "1B, 16 x 512, sdpa"]
    results = json.loads((ROOT / "benchmarks" / "results" / "gpu-h200" / "step_cost.json").read_text())
    (measured_arms,) = [
        table["arms"] for one in results if one["name"] == scenario.name for table in one["report"]["tables"]
    ]
    planned = planned_memory.planned_bytes(replace(planned_memory.plannable(scenario), arms=("sft", "prefix_sg")))
    for arm, planned_bytes in planned.items():
        assert 1.0 < planned_bytes / measured_arms[arm]["peak_memory_bytes"] < 1.05, arm
