"""What the process of a cell is given, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from llm_jepa.cli import main
from llm_jepa.experiments.cell_spec import RESULT_FILE, RUN_DIRECTORY, SPEC_FILE, CellSpec
from llm_jepa.experiments.cells import Cell
from llm_jepa.experiments.running import CellError, cell_environment, read_result
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.files.atomic import write_json
from llm_jepa.runs.record import STATE_FILE


def test_a_cell_has_one_gpu_and_its_share_of_the_cores():
    """Slot 3 of 4 on two GPUs and 16 cores; what else there is stays."""
    environment = cell_environment({"HOME": "/h", "CUDA_VISIBLE_DEVICES": "2,5"}, 3, 4, ["2", "5"], 16)
    assert environment == {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "5", "OMP_NUM_THREADS": "4"}
    assert cell_environment({}, 0, 1, [], 8) == {"OMP_NUM_THREADS": "8"}


def test_a_number_of_threads_that_is_given_stays():
    """More threads than free cores wait for each other, which slows a small model down many times."""
    assert cell_environment({"OMP_NUM_THREADS": "1"}, 0, 1, [], 8) == {"OMP_NUM_THREADS": "1"}


def test_the_program_of_a_cell_imports_without_garbage_collections():
    """It has no directory, which ends it after its imports: they are kept out of all collections then."""
    program = (
        "import gc, sys\n"
        "from llm_jepa.experiments import cell\n"
        "assert 'torch' not in sys.modules\n"
        "collections = gc.get_stats()[2]['collections']\n"
        "try:\n    cell.main()\n"
        "except IndexError:\n"
        "    print(gc.get_stats()[2]['collections'] - collections, gc.get_freeze_count() > 100_000)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "True"]


@pytest.mark.parametrize("name", [SPEC_FILE, RESULT_FILE])
@pytest.mark.parametrize("content", [b"", b'{"scores": {', b"\xff", b"[1]"], ids=["empty", "half", "binary", "list"])
def test_a_damaged_file_of_a_cell_is_refused_by_name(name, content, tmp_path):
    """Files are written whole, so that the damage came from outside: nothing is run over it."""
    cell, spec = Cell("arm", 1, {}, tmp_path), CellSpec("recipe.yaml", {}, "a", "b", None, None, None, 1, 1, False)
    write_json(asdict(spec), tmp_path / SPEC_FILE)
    write_json({"evaluated": spec.evaluation()}, tmp_path / RESULT_FILE)
    assert read_result(cell, spec) == {"evaluated": spec.evaluation()}
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CellError, match=f"`{tmp_path / name}` .* Remove `{tmp_path}` to run the cell anew"):
        read_result(cell, spec)


PROGRAM = """
import sys
from pathlib import Path
from llm_jepa.entry import cleaned_up_at_sigterm
from llm_jepa.experiments.cell_spec import CellSpec
from llm_jepa.experiments.cells import Cell
from llm_jepa.experiments.running import run_cells

directory, sys.executable = Path(sys.argv[1]), sys.argv[2]
cell = Cell("arm", 1, {}, directory)
with cleaned_up_at_sigterm():
    run_cells([cell], {directory: CellSpec("recipe.yaml", {}, "a", "b", None, None, None, 1, 1, False)}, 1, print)
"""


def test_a_comparison_that_is_asked_to_end_ends_its_cells(tmp_path):
    """The cell is a program that would sleep for a minute."""
    sleeper, started = tmp_path / "sleeper", tmp_path / "started"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {started}.part; mv {started}.part {started}; exec sleep 60\n")
    sleeper.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "cell"), str(sleeper)])
    while not started.is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_the_seconds_of_a_resumed_cell_are_not_reported(written, python, monkeypatch):
    """A cell that was killed after its last checkpoint: what it logs are the seconds since."""
    monkeypatch.setattr(sys, "executable", python)
    path = written("resumed", seeds=[1], equal_flops="none", keep_models=True, settings={"save_strategy": "steps"})
    assert main(["compare", str(path)]) == 0
    output_dir = read_experiment(path).output_dir
    cell = output_dir / "cells" / "jepa" / "1"
    (cell / RESULT_FILE).unlink()
    (cell / RUN_DIRECTORY / STATE_FILE).unlink()
    assert main(["compare", str(path)]) == 0
    assert json.loads((cell / RESULT_FILE).read_text())["training"]["seconds"] is None
    series = json.loads((output_dir / "report.json").read_text())["series"]
    assert series["jepa"]["seconds_mean"] is None
    assert series["lm_only"]["seconds_mean"] > 0
