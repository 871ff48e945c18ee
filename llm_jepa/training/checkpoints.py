"""Checkpoints on disk: which are whole, and which one a run resumes from.

A checkpoint is written in this order: its files; a manifest of their names and sizes, once every process has written
its own; the trainer's state. It is whole when the state and every file of the manifest are there in full. So one whose
writing or deletion was interrupted never counts as whole. Older checkpoints are deleted only afterwards.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_jepa.runs.record import STATE_FILE

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"
DIRECTORY_PREFIX = "checkpoint"
"""transformers writes the checkpoint of a step to `checkpoint-STEP`."""


def write_manifest(checkpoint: Path) -> None:
    """Write the manifest of the files that are there now. The trainer's state, written later, is not in it."""
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
    for name in (MANIFEST_FILE, STATE_FILE):  # from when it was written before
        sizes.pop(name, None)
    (checkpoint / MANIFEST_FILE).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def invalidate(checkpoint: Path) -> None:
    """Remove the state of a checkpoint that is about to be written again, so that it does not count as whole."""
    (checkpoint / STATE_FILE).unlink(missing_ok=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint's state and all files of its manifest are there, at full length."""
    sizes, state = _json(checkpoint / MANIFEST_FILE), _json(checkpoint / STATE_FILE)
    if sizes is None or state is None:
        return False
    files = {name: checkpoint / name for name in sizes}
    return all(file.is_file() and file.stat().st_size == sizes[name] for name, file in files.items())


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The whole checkpoint with the most steps, if there is one."""
    whole = {step: path for step, path in _checkpoints(output_dir).items() if is_whole(path)}
    return whole[max(whole)] if whole else None


def remove_partial_checkpoints(output_dir: Path) -> None:
    """Delete checkpoints whose writing or deletion was interrupted; nothing else would free their disk space.

    Those with a state and no manifest stay: they hold weights alone, or another program has written them.
    """
    for checkpoint in _checkpoints(output_dir).values():
        has_state = _json(checkpoint / STATE_FILE) is not None
        if not is_whole(checkpoint) and not (has_state and not (checkpoint / MANIFEST_FILE).exists()):
            logger.warning(f"{checkpoint} is not whole and is removed.")
            shutil.rmtree(checkpoint)


def checkpoint_to_resume(settings: Mapping[str, Any]) -> str | None:
    """The checkpoint that a recipe's settings name, else the last whole one of the output directory, else None."""
    given = named_checkpoint(settings)
    if given is not None:
        return str(given)
    checkpoint = None if settings.get("save_only_model") else last_whole_checkpoint(_output_dir(settings))
    return None if checkpoint is None else str(checkpoint)


def named_checkpoint(settings: Mapping[str, Any]) -> Path | None:
    """The checkpoint that a recipe's settings name, its `~` expanded."""
    given = settings.get("resume_from_checkpoint")
    return None if given is None else Path(given).expanduser()


def check_resume(settings: Mapping[str, Any]) -> None:
    """Check that training can resume from `checkpoint_to_resume`.

    Raises:
        ValueError: The checkpoint that the recipe names is not whole, those of the output directory hold weights
            alone, or other processes have saved it.
    """
    given, checkpoint = named_checkpoint(settings), checkpoint_to_resume(settings)
    if given is not None and not is_whole(given):
        raise ValueError(
            f"`resume_from_checkpoint: {given}` is no checkpoint, or not whole. Leave the key out to resume from the "
            "last whole one of `output_dir`."
        )
    if given is None and settings.get("save_only_model"):
        _refuse_weights_alone(_output_dir(settings))
    if checkpoint is not None:
        _check_world_size(Path(checkpoint))


def _output_dir(settings: Mapping[str, Any]) -> Path:
    return Path(settings["output_dir"]).expanduser()


def _refuse_weights_alone(output_dir: Path) -> None:
    there = [path for path in _checkpoints(output_dir).values() if (path / STATE_FILE).is_file()]
    if there:
        raise ValueError(
            f"`{there[-1]}` was saved with `save_only_model`, without the optimizer, so the run cannot be resumed. "
            "Name another `output_dir`."
        )


def _check_world_size(checkpoint: Path) -> None:
    """With another number of processes, rows and random draws would differ, and the resume would not be exact."""
    saved = max(1, len(list(checkpoint.glob("rng_state_*.pth"))))
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if saved != started:
        raise ValueError(
            f"`{checkpoint}` was saved by {saved} processes, and {started} are to resume from it. Start {saved}, or "
            "name another `output_dir`."
        )


def _checkpoints(output_dir: Path) -> dict[int, Path]:
    """Step -> its checkpoint, whole or not."""
    matches = [(re.fullmatch(rf"{DIRECTORY_PREFIX}-(\d+)", path.name), path) for path in output_dir.glob("*")]
    return dict(sorted((int(match[1]), path) for match, path in matches if match and path.is_dir()))


def _json(path: Path) -> Any:
    """The content of a JSON file; None if the file is missing or incomplete."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # incomplete JSON, or an incomplete character
        return None
