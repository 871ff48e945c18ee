"""How long `llm-jepa` takes to answer: help, refusals of a recipe, a look at data.

    python benchmarks/startup.py --runs 5 --output startup.json

Each command runs in a process of its own. The table has the medians of its wall time and of its processor time, in
seconds, and the wall time within which it should answer on two idle cores. On a busy machine look at processor time.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from llm_jepa.cli import COMMANDS

TRAIN = "-m llm_jepa.train"
"""The start of an executable recipe and of `accelerate launch`, which is no command of `llm-jepa`."""
PROGRAM = [sys.executable, "-c", "import sys; from llm_jepa.cli import main; sys.exit(main())"]
HELP_SECONDS, ANSWER_SECONDS = 0.5, 2.0
RECIPE = """\
model_name_or_path: model
dataset_name: rows.jsonl
output_dir: out
source_column: question
target_column: answer
"""
FILES = {
    "recipe.yaml": RECIPE,
    "unknown-key.yaml": RECIPE + "learnin_rate: 1e-4\n",
    "wrong-value.yaml": RECIPE + "num_predictor_tokens: many\n",
    "out-of-range.yaml": RECIPE + "jepa_dropout: 1.5\n",
    "conflict.yaml": RECIPE + "lora_r: 4\n",
    "no-data.yaml": RECIPE.replace("rows.jsonl", "absent/rows.jsonl"),
    "no-data-set.yaml": RECIPE.replace("rows.jsonl", "absent"),
    "model/config.json": "{}",
    "model/model.safetensors": "\x02\0\0\0\0\0\0\0{}",  # no tensors: the length of the header, the header
    "rows.jsonl": "".join(
        json.dumps({"question": f"What is {i} + {i}?", "answer": f"It is {2 * i}."}) + "\n" for i in range(1000)
    ),
}


@dataclass(frozen=True)
class Case:
    """A command line, how it should end, and within which time."""

    name: str
    argv: tuple[str, ...]
    limit_seconds: float
    status: int = 0


def cases() -> list[Case]:
    """Everything that is timed."""
    helps = [Case(f"{name} --help", (name, "--help"), HELP_SECONDS) for name in COMMANDS]
    refusals = {
        "unknown key": ("unknown-key.yaml",),
        "misspelt key on the command line": ("recipe.yaml", "--learnin_rate", "1"),
        "missing recipe": ("absent.yaml",),
        "value of a wrong type": ("wrong-value.yaml",),
        "value out of range": ("out-of-range.yaml",),
        "options in conflict": ("conflict.yaml",),
        "missing data file": ("no-data.yaml",),
        "missing data set": ("no-data-set.yaml",),
        "unknown tracker": ("recipe.yaml", "--report_to", "foo"),
        "misspelt column": ("recipe.yaml", "--source_column", "qestion"),
        "model in a missing directory": ("recipe.yaml", "--model_name_or_path", "./absent"),
        "missing checkpoint": ("recipe.yaml", "--resume_from_checkpoint", "nope"),
    }
    others = {
        "plan: unknown GPU": ("plan", "recipe.yaml", "--gpu", "h100x"),
        "plan: no GPU": ("plan", "recipe.yaml", "--gpus", "0"),
        "merge: no adapter": ("merge", "nope", "--output_dir", "merged"),
        "push: missing directory": ("push", "nope", "--repo_id", "team/x"),
        "push: not logged in": ("push", "model", "--repo_id", "team/x"),
    }
    return [
        Case("--help", ("--help",), HELP_SECONDS),
        Case("--version", ("--version",), HELP_SECONDS),
        *helps,
        Case("train --help-all", ("train", "--help-all"), HELP_SECONDS),
        *(Case(f"train: {name}", ("train", *argv), ANSWER_SECONDS, 2) for name, argv in refusals.items()),
        *(Case(f"{TRAIN}: {name}", (TRAIN, *argv), ANSWER_SECONDS, 2) for name, argv in refusals.items()),
        *(Case(name, argv, ANSWER_SECONDS, 2) for name, argv in others.items()),
        Case("inspect: misspelt key", ("inspect", "recipe.yaml", "--learnin_rate", "1"), ANSWER_SECONDS, 2),
        Case("inspect rows.jsonl", ("inspect", "rows.jsonl"), ANSWER_SECONDS),
        Case("inspect: missing data set", ("inspect", "absent"), ANSWER_SECONDS, 2),
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each command (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write every time, as JSON")
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    print("| command | wall | processor | within | |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for name, text in FILES.items():
            path = Path(directory, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for case in cases():
            times = [seconds(case, directory) for _ in range(options.runs)]
            walls, processors = [one for one, _ in times], [one for _, one in times]
            found[case.name] = {"wall": walls, "processor": processors}
            wall, processor = statistics.median(walls), statistics.median(processors)
            verdict = "" if wall <= case.limit_seconds else "slow"
            print(f"| {case.name} | {wall:.2f} | {processor:.2f} | {case.limit_seconds} | {verdict} |", flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def seconds(case: Case, directory: str) -> tuple[float, float]:
    """The wall time of one process, and its processor time."""
    places = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HF_HOME": directory}
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | places
    program = [sys.executable, *TRAIN.split(), *case.argv[1:]] if case.argv[0] == TRAIN else [*PROGRAM, *case.argv]
    start, before = time.perf_counter(), processor_seconds()
    ended = subprocess.run(program, cwd=directory, env=environment, capture_output=True, text=True)
    elapsed = time.perf_counter() - start, processor_seconds() - before
    if ended.returncode != case.status:
        print(f"(`{case.name}` ended with {ended.returncode}, not {case.status}: {ended.stderr.strip()[-200:]})")
    return elapsed


def processor_seconds() -> float:
    """The processor time of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
