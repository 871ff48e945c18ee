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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.distributed import DistError
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from llm_jepa.config import JEPAConfig

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"


class WriteError(RuntimeError):
    """A checkpoint or the model could not be written. The message says which checkpoint is kept."""


def write_manifest(checkpoint: Path) -> None:
    """Write the manifest of the files that are there now. The trainer's state, written later, is not in it."""
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
    for name in (MANIFEST_FILE, TRAINER_STATE_NAME):  # from when it was written before
        sizes.pop(name, None)
    (checkpoint / MANIFEST_FILE).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def invalidate(checkpoint: Path) -> None:
    """Remove the state of a checkpoint that is about to be written again, so that it does not count as whole."""
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether the checkpoint's state and all files of its manifest are there, at full length."""
    sizes, state = _json(checkpoint / MANIFEST_FILE), _json(checkpoint / TRAINER_STATE_NAME)
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
        has_state = _json(checkpoint / TRAINER_STATE_NAME) is not None
        if not is_whole(checkpoint) and not (has_state and not (checkpoint / MANIFEST_FILE).exists()):
            logger.warning(f"{checkpoint} is not whole and is removed.")
            shutil.rmtree(checkpoint)


def checkpoint_to_resume(args: JEPAConfig) -> str | None:
    """The checkpoint that the recipe names, else the last whole one of the output directory, else None."""
    if args.resume_from_checkpoint is not None:
        return args.resume_from_checkpoint
    checkpoint = None if args.save_only_model else last_whole_checkpoint(Path(str(args.output_dir)))
    return None if checkpoint is None else str(checkpoint)


def check_resume(args: JEPAConfig) -> None:
    """Check that training can resume from `checkpoint_to_resume`.

    Raises:
        ValueError: The checkpoint that the recipe names is not whole, those of the output directory hold weights
            alone, or other processes have saved it.
    """
    given, checkpoint = args.resume_from_checkpoint, checkpoint_to_resume(args)
    if given is not None and not is_whole(Path(given)):
        raise ValueError(
            f"`resume_from_checkpoint: {given}` is no checkpoint, or not whole. Leave the key out to resume from the "
            "last whole one of `output_dir`."
        )
    if given is None and args.save_only_model:
        _refuse_weights_alone(Path(str(args.output_dir)))
    if checkpoint is not None:
        _check_world_size(Path(checkpoint))


@contextmanager
def write_errors_explained(what: str, output_dir: Path) -> Iterator[None]:
    """Explain an error while `what` is written: what failed, and which checkpoint the run can resume from.

    Raises:
        WriteError: In place of the error, which is its cause.
    """
    try:
        yield
    except (torch.OutOfMemoryError, DistError):  # RuntimeErrors that do not come from writing
        raise
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises RuntimeError
        kept = last_whole_checkpoint(output_dir)
        free_megabytes = shutil.disk_usage(output_dir).free // 10**6
        consequence = f"{kept} is kept; the same command resumes from it" if kept else "There was no checkpoint before"
        raise WriteError(
            f"{what} could not be written to {output_dir}: {error}. The disk has {free_megabytes} MB free. "
            f"{consequence}. The next start replaces what was written in part."
        ) from error


def _refuse_weights_alone(output_dir: Path) -> None:
    there = [path for path in _checkpoints(output_dir).values() if (path / TRAINER_STATE_NAME).is_file()]
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
    matches = [(re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name), path) for path in output_dir.glob("*")]
    return dict(sorted((int(match[1]), path) for match, path in matches if match and path.is_dir()))


def _json(path: Path) -> Any:
    """The content of a JSON file; None if the file is missing or incomplete."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # incomplete JSON, or an incomplete character
        return None
