"""The scripts of data/ as modules, run on inputs in their published form."""

import json
from pathlib import Path

from llm_jepa.preparers.program import run
from tests.preparers.generated_sets import GENERATED
from tests.preparers.scripts import load_script
from tests.preparers.upstream_files import WRITERS

DATA = Path(__file__).parents[2] / "data"
SETS = WRITERS | GENERATED
SCRIPTS = {name: load_script(DATA / f"{name}.py") for name in SETS}
SPLITS = ("train", "validation", "test")


def prepare(name: str, directory: Path, *options: str) -> tuple[Path, str]:
    """Write the inputs of a set and run its preparer on them: where it wrote, and what it said."""
    inputs, output = directory / "in", directory / "out"
    inputs.mkdir(exist_ok=True)
    own = SETS[name](inputs)
    if not own:
        own = ["--input_dir", str(inputs), "--unchecked"]
    return output, "\n".join(run(SCRIPTS[name].DATA_SET, ["--output_dir", str(output), *own, *options]))


def read(output: Path, split: str) -> list[dict]:
    path = output / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
