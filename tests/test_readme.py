"""Every `bash` command and every Python block of the README and of docs/ runs, with a tiny model as the real one.

Blocks with a title are files that the commands read. `sh` blocks hold commands with placeholders, or for machines that
are not here: their options are checked.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig, ScriptArguments

from llm_jepa import JEPAConfig
from llm_jepa.cli.arguments import ADD_ARGUMENTS
from llm_jepa.experiments.spec import Experiment
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.models.known_models import KNOWN_MODELS, SOURCE_FILE
from llm_jepa.vision.config import VisionConfig
from tests.forks import TIMEOUT_SECONDS
from tests.tiny import save_tiny_model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KNOWN = KNOWN_MODELS["smollm2-135m-instruct"]
RECIPE_KEYS = {field.name for arguments in (ScriptArguments, ModelConfig, JEPAConfig) for field in fields(arguments)}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    kind: str
    title: str | None
    text: str

    def commands(self) -> list[list[str]]:
        """Its commands, without comments; a line that ends in a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


BLOCKS = [
    Block(page.name, kind, title or None, text)
    for page in PAGES
    for kind, title, text in re.findall(
        r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
]
README_FILES = {block.title: block.text for block in BLOCKS if block.title and block.page == "README.md"}


def commands_of(kind: str) -> list[list[str]]:
    """The commands of all pages in their order, each once."""
    commands = [tuple(command) for block in BLOCKS if block.kind == kind for command in block.commands()]
    return [list(command) for command in dict.fromkeys(commands)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A working tree like a fresh clone, the README's files, and a tiny model in the cache by the known one's name."""
    directory = tmp_path_factory.mktemp("clone")
    for folder in ("recipes", "benchmarks"):
        shutil.copytree(ROOT / folder, directory / folder)
    (directory / "data").mkdir()
    shutil.copy(ROOT / "data" / "nl_rx.py", directory / "data")
    save_tiny_model(directory / "cache" / KNOWN.name, num_hidden_layers=1)
    (directory / "cache" / KNOWN.name / SOURCE_FILE).write_text(f"# {KNOWN.hub_id}\n\nTiny.\n")
    for name, text in README_FILES.items():
        (directory / name).write_text(text)
    rows = directory / "rows.jsonl"  # of two rows there is no fifth; a held-out row may not be one of training's
    rows.write_text("".join(rows.read_text().replace("?", f" in {year}?") for year in range(2010, 2020)))
    experiment = directory / "compare.yaml"
    shortened = "seeds: [82]\nequal_flops: none"  # tests/experiments/ run the rest
    experiment.write_text(re.sub(r"^seeds: .*$", shortened, experiment.read_text(), flags=re.MULTILINE))
    (directory / "docs-experiment.yaml").write_text(
        next(block.text for block in BLOCKS if block.page == "compare.md" and block.title == "compare.yaml")
    )
    return directory


def run(command: list[str], clone: Path, python: str) -> str:
    """What a command prints: a script, or one of those that are installed beside Python."""
    program, *arguments = command
    scripts = [] if program == "python" else [str(Path(sys.executable).with_name(program))]
    environment = os.environ | {
        "LLM_JEPA_CACHE": str(clone / "cache"),
        "PATH": os.pathsep.join([str(Path(python).parent), os.environ["PATH"]]),
        "HF_DATASETS_CACHE": str(clone / "cache" / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [python, *scripts, *arguments],
        cwd=clone,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}"
    return done.stdout


@pytest.fixture(autouse=True)
def _in_the_clone(clone, monkeypatch):
    monkeypatch.chdir(clone)


@pytest.fixture(scope="module")
def nl_rx(clone, python):
    """The generated rows, just enough for two steps of the quickstart's recipe."""
    (command,) = [command for command in commands_of("bash") if "data/nl_rx.py" in command]
    run([*command, "--num_train", "16", "--num_test", "4"], clone, python)


def test_the_make_targets_exist():
    targets = [command[1] for block in BLOCKS for command in block.commands() if command[0] == "make"]
    assert {*targets} >= {"quickstart", "test"}
    for target in {*targets, "docs"}:
        subprocess.run(["make", target, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_every_command_runs(clone, nl_rx, python):
    """What trains in one process, by the command, a launcher or the recipe itself, makes the same bytes."""
    commands = [command for command in commands_of("bash") if command[0] != "make" and "data/nl_rx.py" not in command]
    assert {command[1] for command in commands if command[0] == "llm-jepa"} >= {
        "inspect", "plan", "train", "eval", "probe", "compare", "fetch-model"
    }  # fmt: skip
    alike = [clone / "outputs" / "nl_rx" / "smollm2-135m-lora"]
    for number, command in enumerate(commands):
        if command[0] == "accelerate":
            alike.append(clone / "out" / str(number))
            command += ["--output_dir", str(alike[-1])]
        if "eval" in command:
            command += ["--max_new_tokens", "8"]
        if "benchmarks/step_cost.py" in command:
            command += ["--no_memory", "--rounds", "1", "--steps", "2", "--arms", "sft", "tube"]
        output = run(command, clone, python)
        if "eval" in command:
            assert "base" in output
            assert "tuned" in output
    assert len(alike) == 3
    assert len({(directory / "adapter_model.safetensors").read_bytes() for directory in alike}) == 1
    assert (clone / "outputs" / "compare" / "report.md").is_file()


# Those of inference.md and vl.md need a trained model, and run in `tests/inference` and `tests/vision`.
PYTHON = [block for block in BLOCKS if block.kind == "python" and block.page not in ("inference.md", "vl.md")]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.page)
def test_every_python_block_runs(block, clone, nl_rx, python):
    (clone / "block.py").write_text(block.text)
    run(["python", "block.py"], clone, python)


def test_the_experiments_are_read(clone):
    """With all their seeds; an arm's recipe is checked as `llm-jepa train` does."""
    (clone / "readme-compare.yaml").write_text(README_FILES["compare.yaml"])
    for name in ("readme-compare.yaml", "docs-experiment.yaml"):
        assert len(read_experiment(clone / name).seeds) == 5


OURS = [command for command in commands_of("sh") if {"llm-jepa", "llm_jepa.train"} & {*command}]


@pytest.mark.parametrize("command", OURS, ids=shlex.join)
def test_the_options_of_a_command_that_is_not_run_are_there(command):
    words = command[command.index("llm_jepa.train") :] if "llm_jepa.train" in command else command[1:]
    if command[0] == "llm-jepa":
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        ADD_ARGUMENTS[command[1]](parser)
        _, words = parser.parse_known_args(command[2:])
    assert {word.removeprefix("--") for word in words if word.startswith("--")} <= RECIPE_KEYS


def test_the_keys_of_every_yaml_block_are_there():
    """Those of pages on VL-JEPA are of its recipes."""
    known = RECIPE_KEYS | {*Experiment.__annotations__}
    vision = known | {field.name for field in fields(VisionConfig)}
    for block in BLOCKS:
        if block.kind == "yaml":
            assert {*(yaml.safe_load(block.text) or {})} <= (vision if block.page.startswith("vl") else known), block


def test_the_rows_of_the_readme_are_json_lines():
    assert all(json.loads(line) for line in README_FILES["rows.jsonl"].splitlines())
