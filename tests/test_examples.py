"""The scripts of examples/ run, on a tiny random model."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.forks import TIMEOUT_SECONDS, fork, run_script
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
def test_an_example_trains_and_saves(name, directory):
    command = [str(EXAMPLES / name), "--model", "model", "--output_dir", "out", "--max_steps", "1", *OPTIONS[name]]
    process = fork(directory / "log", run_script, command)
    process.join(TIMEOUT_SECONDS)
    output = (directory / "log").read_text()
    assert process.exitcode == 0, output
    saved = "model.safetensors" if name == "own_data.py" else "adapter_model.safetensors"
    assert (directory / "out" / saved).is_file()
    if name == "own_data.py":
        assert output.count("answered:") == 8


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
