"""The output directory of a run: what may be there when the run begins, and the lock that it holds while it trains."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from llm_jepa.files.atomic import partial_path
from llm_jepa.runs.record import (
    KEYS_WITHOUT_EFFECT_ON_RESULT,
    RECIPE_FILE,
    SCORING_KEYS,
    STATE_FILE,
    read_json,
)
from llm_jepa.settings.reading import read_settings

LOCK_FILE = "run.lock"
LEFT_BY_AN_EARLY_KILL = frozenset({LOCK_FILE, partial_path(Path(RECIPE_FILE)).name})
"""Files of a run that was killed before its recipe was written."""


def check_output_directory(directory: Path, settings: Mapping[str, Any]) -> None:
    """Accept a directory that does not exist, is empty, or belongs to a run with the same settings.

    Raises:
        ValueError: It holds anything else; the message lists the settings that differ.
    """
    check_place(directory)
    if not directory.exists():
        return
    if {path.name for path in directory.iterdir()} <= LEFT_BY_AN_EARLY_KILL:
        return
    advice = "Nothing was overwritten. Name another `output_dir`, or move this one away."
    if not (directory / RECIPE_FILE).is_file():
        raise ValueError(f"`output_dir: {directory}` is not empty and holds no run ({RECIPE_FILE}). {advice}")
    differences = _setting_differences(directory, settings)
    if differences:
        raise ValueError(f"`output_dir: {directory}` holds a run with other settings: {differences}. {advice}")


def check_place(directory: Path) -> None:
    """Check that a directory exists, or can be made.

    Raises:
        ValueError: It is a file, lies under one, or nothing may be written there.
    """
    if directory.is_dir():
        return
    if directory.exists():
        raise ValueError(f"`output_dir: {directory}` is a file. Name a directory.")
    parent = next(parent for parent in directory.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise ValueError(f"`output_dir: {directory}` lies under `{parent}`, which is a file. Name another directory.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"`output_dir: {directory}`: nothing may be written in `{parent}`. Name another directory.")


def is_same_run(directory: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a directory holds a run with the same settings."""
    return (directory / RECIPE_FILE).is_file() and not _setting_differences(directory, settings)


def check_checkpoint_settings(checkpoint: Path, settings: Mapping[str, Any]) -> None:
    """Accept a checkpoint that lies in no run's output directory, or in that of a run with the same settings.

    Raises:
        ValueError: Its run has other settings; the message lists those that differ.
    """
    run = checkpoint.parent
    differences = _setting_differences(run, settings) if (run / RECIPE_FILE).is_file() else ""
    if differences:
        raise ValueError(
            f"`resume_from_checkpoint: {checkpoint}` belongs to a run with other settings: {differences}. Use the "
            "settings of that run, or leave `resume_from_checkpoint` out to start anew."
        )


def holds_complete_run(directory: Path) -> bool:
    """Whether a run has ended here. The trainer's state is written last, after the model."""
    try:
        return bool(read_json(directory / STATE_FILE))
    except ValueError:  # cut off
        return False


@contextmanager
def output_directory_lock(directory: Path, is_main_process: bool) -> Iterator[None]:
    """Lock the output directory against a second run. The main process holds the lock; a kill releases it.

    Raises:
        ValueError: Another run holds it.
    """
    if not is_main_process:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another run is training in `output_dir: {directory}`. Wait until it ends, or name another directory."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _setting_differences(run: Path, settings: Mapping[str, Any]) -> str:
    """The settings that affect a run's result and differ between that run and these settings, in words."""
    ignored = KEYS_WITHOUT_EFFECT_ON_RESULT | SCORING_KEYS
    if settings.get("eval_strategy", "no") == "no":
        ignored |= {"dataset_test_split"}
    here = {key: value for key, value in settings.items() if key not in ignored}
    there = {key: value for key, value in read_settings(run / RECIPE_FILE).items() if key not in ignored}
    return "; ".join(
        f"`{key}` is {_shown(there, key)} there and {_shown(here, key)} here"
        for key in here | there
        if (key in here, here.get(key)) != (key in there, there.get(key))
    )


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not given"
