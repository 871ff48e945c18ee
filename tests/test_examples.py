"""The scripts of examples/ run, on a tiny random model."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.forks import TIMEOUT_SECONDS
from tests.tiny import PAIRS, save_tiny_model

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
DATA = ("--dataset", "data")
OPTIONS = {
    "train_from_python.py": DATA,
    "own_data.py": (),
    "uv_train.py": (*DATA, "--source_column", "source", "--target_column", "target"),
}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", OPTIONS)
def test_an_example_trains_and_saves(name, directory, python):
    options = ["--model", "model", "--output_dir", "out", "--max_steps", "1", *OPTIONS[name]]
    done = subprocess.run(
        [python, str(EXAMPLES / name), *options],
        env=os.environ | {"HF_DATASETS_CACHE": str(directory / "cache")},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    saved = "model.safetensors" if name == "own_data.py" else "adapter_model.safetensors"
    assert (directory / "out" / saved).is_file()
    if name == "own_data.py":
        assert done.stdout.count("answered:") == 8


def test_every_example_is_run_and_listed():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == {*OPTIONS}
    assert {*re.findall(r"^\| `([\w.]+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)} == scripts


def test_the_single_file_names_what_the_package_needs():
    """Inline script metadata as PEP 723 has it: this package, and its Python."""
    text = (EXAMPLES / "uv_train.py").read_text(encoding="utf-8")
    block = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", text)[1]
    metadata = tomllib.loads(re.sub(r"^# ?", "", block, flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata == {"requires-python": project["requires-python"], "dependencies": [project["name"]]}
