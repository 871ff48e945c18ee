"""Runs the cells of an experiment, each in a process of its own, on one device each."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from llm_jepa.experiments.cell_spec import (
    CURVE_FILE,
    DIVERGED,
    LOCK_FILE,
    RESULT_FILE,
    RUN_DIRECTORY,
    SPEC_FILE,
    CellSpec,
    differences,
    read_spec,
)
from llm_jepa.experiments.cells import Cell
from llm_jepa.files.atomic import write_json
from llm_jepa.runs.output_directory import holds_complete_run
from llm_jepa.runs.record import read_json

LOG_FILE = "log.txt"
Specs = Mapping[Path, CellSpec]
Content = TypeVar("Content")


class CellError(RuntimeError):
    """A cell failed, or its directory holds another cell. The message says where and why."""


def read_result(cell: Cell, spec: CellSpec) -> dict[str, Any] | None:
    """The result of a cell; None if it is not finished, or must be evaluated anew and its model is there.

    Raises:
        CellError: The directory holds a cell that was trained otherwise, or evaluated otherwise without its model, or
            a damaged file.
    """
    if not _holds_work(cell.directory):
        return None
    written = cell.directory / SPEC_FILE
    before, result = _read(read_spec, written), _read(read_json, cell.directory / RESULT_FILE)
    if before is None:
        reason = "was made by another version of this package" if written.is_file() else f"has no {SPEC_FILE}"
        raise CellError(f"{cell.directory} {reason}, so that its settings are not known. {_REMEDY}")
    if trained := differences(before.training(), spec.training()):
        raise CellError(f"{cell.directory} was trained otherwise: {trained}. {_REMEDY}")
    if not result:
        return None
    evaluated = differences(result["evaluated"], spec.evaluation())
    if not evaluated or DIVERGED in result:
        return result
    if holds_complete_run(cell.directory / RUN_DIRECTORY):
        return None
    raise CellError(f"{cell.directory} was evaluated otherwise: {evaluated}. Its model was not kept. {_REMEDY}")


def _read(read: Callable[[Path], Content], path: Path) -> Content:
    """Read a file of a cell. It was written whole: damage came from outside, so that the cell is not run over it."""
    try:
        return read(path)
    except ValueError as error:
        raise CellError(f"{error} Remove `{path.parent}` to run the cell anew.") from error


_REMEDY = "Give the experiment another `output_dir`, remove the directory to run the cell anew, or undo the change."


def _holds_work(directory: Path) -> bool:
    """Whether a cell left anything that a run can go on from. A cell that failed at its start left nothing."""
    run = directory / RUN_DIRECTORY
    return (directory / RESULT_FILE).is_file() or any(run.glob("checkpoint-*")) or holds_complete_run(run)


def usable_jobs(jobs: int | None) -> int:
    """How many cells run at a time: as asked, or one per GPU, or one.

    Raises:
        ValueError: Fewer than one was asked for.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"`--jobs` is {jobs}; it must be at least 1.")
    return jobs or len(visible_devices(os.environ)) or 1


def run_cells(cells: Sequence[Cell], specs: Specs, num_jobs: int, progress: Callable[[Cell], None]) -> list[str]:
    """Run the cells without a result, `num_jobs` processes at a time; returns the errors of failed cells.

    After a failure the other cells still run. An interruption of this process ends all of them.
    """
    failures = []
    running: set[subprocess.Popen] = set()
    lock = threading.Lock()
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(num_jobs):
        slots.put(slot)
    devices, num_cores = visible_devices(os.environ), usable_cores()

    def run(cell: Cell) -> None:
        if read_result(cell, specs[cell.directory]) is not None:
            return
        slot = slots.get()
        try:
            environment = cell_environment(os.environ, slot, num_jobs, devices, num_cores)
            _run_process(cell, specs[cell.directory], environment, running, lock)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(num_jobs) as pool:
        futures = {pool.submit(run, cell): cell for cell in cells}
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, CellError):
                    failures.append(str(error))
                elif error is not None:
                    raise error
                progress(futures[future])
        finally:  # after an error or Ctrl-C, end the cells that wait or run
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.terminate()
    return failures


def cell_environment(
    environment: Mapping[str, str], slot: int, num_jobs: int, devices: Sequence[str], num_cores: int
) -> dict[str, str]:
    """The environment of the cell in a slot: this one with one GPU, and a share of the cores unless it sets a number.

    Example: with 4 jobs on the GPUs 2 and 5 and 16 cores, slot 3 gets GPU 5 and 4 threads.
    """
    device = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}
    return {"OMP_NUM_THREADS": str(max(1, num_cores // num_jobs)), **environment, **device}


def visible_devices(environment: Mapping[str, str]) -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES knows the GPUs of this process; none without a GPU."""
    import torch  # takes seconds

    if not torch.cuda.is_available():
        return []
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    return listed.split(",") if listed else [str(number) for number in range(torch.cuda.device_count())]


def usable_cores() -> int:
    """The cores that this process may use; macOS does not tell, and all count there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_process(
    cell: Cell,
    spec: CellSpec,
    environment: Mapping[str, str],
    running: set[subprocess.Popen],
    lock: threading.Lock,
) -> None:
    cell.directory.mkdir(parents=True, exist_ok=True)
    _write_spec(cell, spec)
    path = cell.directory / LOG_FILE
    with path.open("a", encoding="utf-8") as log:
        start = os.fstat(log.fileno()).st_size
        command = [sys.executable, "-m", "llm_jepa.experiments.cell", str(cell.directory)]
        with lock:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            running.add(process)
        status = process.wait()
        with lock:
            running.discard(process)
    if status != 0 or read_result(cell, spec) is None:
        raise CellError(
            f"Cell {cell.series}, seed {cell.seed}, failed (status {status}); see {path}.{_logged_error(path, start)}"
        )


def _logged_error(path: Path, start: int) -> str:
    """The error in one line that a process has logged from this byte on, if it did."""
    lines = path.read_bytes()[start:].decode(errors="replace").split("\n")
    return next((f" {line}" for line in reversed(lines) if line.startswith("error: ")), "")


def _write_spec(cell: Cell, spec: CellSpec) -> None:
    """Write a cell's specification; what an attempt with other settings left is deleted.

    Raises:
        CellError: A process that a killed comparison left trains the cell with other settings, or has just done so; or
            the file there is damaged.
    """
    directory, path = cell.directory, cell.directory / SPEC_FILE
    before = _read(read_spec, path)
    if path.is_file() and (before is None or before.training() != spec.training()):
        try:
            with FileLock(directory / LOCK_FILE, timeout=0):
                read_result(cell, spec)
                shutil.rmtree(directory / RUN_DIRECTORY, ignore_errors=True)
                (directory / CURVE_FILE).unlink(missing_ok=True)
        except Timeout as error:
            raise CellError(
                f"{directory} is being trained with other settings, by a process that a killed comparison left. Wait "
                "until it ends, or end it."
            ) from error
    write_json(asdict(spec), path)
