"""Every command of the README runs, in its order, with a tiny model in the place of the real one."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm_jepa.cli import main
from llm_jepa.models.known_models import KNOWN_MODELS, SOURCE_FILE
from tests.forks import TIMEOUT_SECONDS, fork
from tests.tiny import save_tiny_model

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip() for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line
]
KNOWN = KNOWN_MODELS["smollm2-135m-instruct"]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A working tree like a fresh clone, and a cache in which a tiny model goes by the known model's name."""
    directory = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "recipes", directory / "recipes")
    (directory / "data").mkdir()
    shutil.copy(ROOT / "data" / "nl_rx.py", directory / "data")
    shutil.copytree(ROOT / "benchmarks", directory / "benchmarks")
    save_tiny_model(directory / "cache" / "smollm2-135m-instruct")
    (directory / "cache" / "smollm2-135m-instruct" / SOURCE_FILE).write_text(f"# {KNOWN.hub_id}\n\nTiny.\n")
    return directory


def run(command: list[str], clone: Path) -> str:
    """What a command prints. `llm-jepa` is forked, since each start of Python imports for ten seconds."""
    cache = {"LLM_JEPA_CACHE": str(clone / "cache")}
    if command[0] == "llm-jepa":
        process = fork(clone / "log", main, command[1:], **cache)
        process.join(TIMEOUT_SECONDS)
        status, output = process.exitcode, (clone / "log").read_text()
    else:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | cache | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        status, output = done.returncode, done.stdout + done.stderr
    assert status == 0, f"{shlex.join(command)}\n{output}"
    return output


@pytest.fixture(autouse=True)
def _in_the_clone(clone, monkeypatch):
    monkeypatch.chdir(clone)


def test_the_make_targets_exist():
    targets = [command for command in COMMANDS if command.startswith("make ")]
    assert targets == ["make quickstart", "make test"]
    for command in targets:
        subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_commands_run_in_their_order(clone):
    """What trains in one process, by the command, a launcher or the recipe itself, makes the same bytes."""
    commands = [shlex.split(command) for command in COMMANDS if not command.startswith("make ")]
    # The data come last in the README's list, since the quickstart has made them; here they must come first.
    commands.sort(key=lambda command: command[0] != "python")
    alike = []
    for number, command in enumerate(commands):
        if "train" in command or "accelerate" in command:
            output_dir = f"out/{number}"
            if not {"--jepa_weight", "--config_file"} & {*command}:
                alike.append(clone / output_dir / "adapter_model.safetensors")
            command += ["--max_steps", "2", "--output_dir", output_dir]
        if "eval" in command or "probe" in command:
            command += ["--output_dir", str(alike[0].parent), "--max_steps", "2"]
        if "eval" in command:
            command += ["--max_new_tokens", "8"]
        if "benchmarks/step_cost.py" in command:
            command.append("--no_memory")
        if "--config_file" in command:
            command[command.index("--config_file") + 1] = str(ROOT / "tests" / "cpu-2.yaml")
        output = run(command, clone)
        if "eval" in command:
            assert "base" in output
            assert "tuned" in output
        if "train" in command:
            assert f"Adapter: {output_dir}" in output.splitlines()
    assert len(alike) == 3
    assert len({path.read_bytes() for path in alike}) == 1


def test_the_python_example_runs(clone):
    if not (clone / "data" / "nl_rx").exists():
        run(
            [sys.executable, "data/nl_rx.py", "--output_dir", "data/nl_rx", "--num_train", "20", "--num_test", "10"],
            clone,
        )
    run([sys.executable, "-c", PYTHON[0].replace('split="train"', 'split="train[:16]"')], clone)


def test_the_map_names_every_file_of_the_package_and_no_other():
    listed = set(re.findall(r"^\| `(\w+/[\w/.]+)` \|", README, flags=re.MULTILINE))
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "llm_jepa").rglob("*.py") if path.name != "__init__.py"}
    assert {name for name in listed if name.startswith("llm_jepa/")} == files
    assert [name for name in listed if not (ROOT / name).exists()] == []


def test_no_placeholder_is_left():
    assert re.findall(r"^[A-Z_]+$", README, flags=re.MULTILINE) == []
