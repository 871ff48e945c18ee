"""Runs as many cells of the path-star experiment as its time allows, several at once on one GPU, and keeps them.

python benchmarks/gpu/planning.py OUTPUT_DIR --seconds 400 [--dry]

OUTPUT_DIR gets `cells.json` and `design.json`, as a directory of `benchmarks/results` has them. The arms say whether
`next_latent` does what multi-token prediction does.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent.parent))  # where evidence/ lies

from evidence.cells import collect

from llm_jepa.experiments.running import usable_cores

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "recipes" / "experiments" / "path_star-llama-4x64.yaml"
ARMS = ("lm_only", "multi_token", "next_latent_1", "next_latent_2")
NUM_TRAIN, WIDTH = 100_000, 64
ENDING_SECONDS = 30
"""What a comparison that is asked to end may take."""


def main() -> int:
    """Make rows, model and experiment, run it until its time is over, keep the finished cells."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--dry", action="store_true", help="one seed of two arms, two steps of few rows")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as scratch:
        experiment = write_experiment(Path(scratch), options.dry)
        output_dir = Path(experiment["output_dir"])
        run_until(deadline, Path(scratch) / "experiment.yaml", 1 if options.dry else max(1, usable_cores() - 2))
        try:
            print(f"{collect(output_dir, options.output_dir)} cells in {options.output_dir}")
        except ValueError as error:
            print(error)
            return 1
    return 0


def write_experiment(scratch: Path, dry: bool) -> dict[str, Any]:
    """Make the rows and the model in `scratch`, and the experiment that reads them. Returns its content."""
    rows, model = scratch / "path_star", scratch / "model"
    num_train, width = (64, 32) if dry else (NUM_TRAIN, WIDTH)
    rows_command = [ROOT / "data" / "path_star.py", "--output_dir", rows, "--num_train", num_train]
    model_command = [ROOT / "recipes" / "planning" / "word_model.py", "--data_dir", rows, "--output_dir", model]
    for command in (rows_command, [*model_command, "--width", width]):
        subprocess.run([sys.executable, *map(str, command)], check=True)
    content = yaml.safe_load(EXPERIMENT.read_text(encoding="utf-8"))
    arms = ARMS[:2] if dry else ARMS
    content |= {"recipe": str(ROOT / content["recipe"]), "output_dir": str(scratch / "runs"), "equal_flops": "none"}
    content["arms"] = {arm: content["arms"][arm] for arm in arms}
    content["settings"] |= {"model_name_or_path": str(model), "dataset_name": str(rows)}
    if dry:
        content["seeds"] = content["seeds"][:1]
        content["settings"] |= {"max_steps": 2, "per_device_train_batch_size": 8}
        content["evaluation"] |= {"max_rows": 8, "every_steps": 2}
    (scratch / "experiment.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return content


def run_until(deadline: float, experiment: Path, num_jobs: int) -> None:
    """Run `llm-jepa compare`; at the deadline it is asked to end, and finished cells stay."""
    program = "from llm_jepa.cli import main; main()"  # the pack holds no command `llm-jepa`
    command = [sys.executable, "-c", program, "compare", str(experiment), "--jobs", str(num_jobs)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=ENDING_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
