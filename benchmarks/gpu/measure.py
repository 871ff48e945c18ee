"""Measures one group of scenarios, one after the other in one process; the results are written after each.

    python benchmarks/gpu/measure.py step_cost OUTPUT.json [--dry]

A scenario that fails is noted, and the next one begins. `--dry` tries everything on the CPU in the least sizes.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # where step_cost.py lies
import step_cost  # noqa: E402
from scenarios import GROUPS, Scenario, in_small  # noqa: E402
from shapes import write_model  # noqa: E402


def main() -> None:
    """Measure the group that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("group", choices=list(GROUPS))
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for planned in GROUPS[options.group]:
        scenario = in_small(planned) if options.dry else planned
        print(f"## {scenario.name}", flush=True)
        results.append(measured(scenario))
        step_cost.free_memory(scenario.device)
        options.output.write_text(json.dumps(results) + "\n", encoding="utf-8")
    failed = [result["name"] for result in results if "error" in result]
    if failed:
        sys.exit(f"Failed: {'; '.join(failed)}")


def measured(scenario: Scenario) -> dict[str, Any]:
    """The report of step_cost.py, or the error that it ended with; and the seconds that it took."""
    begin = time.perf_counter()
    result: dict[str, Any] = {"name": scenario.name}
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "step_cost.json")
        model = write_model(scenario.shape, Path(directory, scenario.shape))
        try:
            step_cost.main(scenario.arguments(model, str(output)))
            result["report"] = json.loads(output.read_text())
        except Exception as error:  # whatever one scenario meets, the next one is measured
            result["error"] = f"{type(error).__name__}: {error}"
            print(result["error"], flush=True)
    return result | {"seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    main()
