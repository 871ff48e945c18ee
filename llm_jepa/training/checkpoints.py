"""Checkpoints on disk: which are whole, which one a run is taken up from, and what became of one that was cut off.

A checkpoint is written in this order: its files; a manifest of their names and sizes, once every process has written
its own; the trainer's state. It is whole when that state and all the manifest names are there in full. So one that was
cut off in the writing, or half deleted, is never taken for whole, and older ones are deleted only after.
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
    """A checkpoint or the model could not be written; the message says what is kept."""


def write_manifest(checkpoint: Path) -> None:
    """Note the size of each file that is there; what is written later has to be whole by other signs."""
    files = (path for path in checkpoint.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
    for name in (MANIFEST_FILE, TRAINER_STATE_NAME):  # of an earlier writing
        sizes.pop(name, None)
    (checkpoint / MANIFEST_FILE).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def invalidate(checkpoint: Path) -> None:
    """Have a checkpoint, if it is there, count as cut off until it has been written once more."""
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether everything that was written into a checkpoint is there, in full length."""
    sizes, state = _json(checkpoint / MANIFEST_FILE), _json(checkpoint / TRAINER_STATE_NAME)
    if sizes is None or state is None:
        return False
    files = {name: checkpoint / name for name in sizes}
    return all(file.is_file() and file.stat().st_size == sizes[name] for name, file in files.items())


def last_whole(output_dir: Path) -> Path | None:
    """The whole checkpoint of the most steps, if there is one."""
    whole = {step: path for step, path in _checkpoints(output_dir).items() if is_whole(path)}
    return whole[max(whole)] if whole else None


def remove_torn(output_dir: Path) -> None:
    """Delete what was cut off in the writing or in the deleting, which would keep its room for ever.

    What has a state and no manifest stays: weights alone, or a checkpoint that something else has written.
    """
    for checkpoint in _checkpoints(output_dir).values():
        has_state = _json(checkpoint / TRAINER_STATE_NAME) is not None
        if not is_whole(checkpoint) and not (has_state and not (checkpoint / MANIFEST_FILE).exists()):
            logger.warning(f"{checkpoint} is not whole; it is removed.")
            shutil.rmtree(checkpoint)


def checkpoint_to_resume(args: JEPAConfig) -> str | None:
    """The checkpoint that the recipe names, else the last whole one of the output directory, else None."""
    if args.resume_from_checkpoint is not None:
        return args.resume_from_checkpoint
    checkpoint = None if args.save_only_model else last_whole(Path(str(args.output_dir)))
    return None if checkpoint is None else str(checkpoint)


def check_resume(args: JEPAConfig) -> None:
    """Check that training can go on from `checkpoint_to_resume`.

    Raises:
        ValueError: The checkpoint that the recipe names is not whole, those of the output directory hold weights
            alone, or other processes have saved it.
    """
    given, checkpoint = args.resume_from_checkpoint, checkpoint_to_resume(args)
    if given is not None and not is_whole(Path(given)):
        raise ValueError(
            f"`resume_from_checkpoint: {given}` is no checkpoint, or not whole. Leave the key out to go on from the "
            "last whole one of `output_dir`."
        )
    if given is None and args.save_only_model:
        _refuse_weights_alone(Path(str(args.output_dir)))
    if checkpoint is not None:
        _check_world_size(Path(checkpoint))


@contextmanager
def write_errors_explained(what: str, output_dir: Path) -> Iterator[None]:
    """Say of an error in the writing of `what` that it was that, and from where the run can go on.

    Raises:
        WriteError: In place of the error, which is its cause.
    """
    try:
        yield
    except (torch.OutOfMemoryError, DistError):  # RuntimeErrors that are no writing's
        raise
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: torch.save's
        kept = last_whole(output_dir)
        free_megabytes = shutil.disk_usage(output_dir).free // 10**6
        consequence = f"{kept} is kept, and the same command goes on from it" if kept else "No checkpoint was there"
        raise WriteError(
            f"{what} could not be written to {output_dir}: {error}. The disk has {free_megabytes} MB free. "
            f"{consequence}; the next start replaces what was written in part."
        ) from error


def _refuse_weights_alone(output_dir: Path) -> None:
    there = [path for path in _checkpoints(output_dir).values() if (path / TRAINER_STATE_NAME).is_file()]
    if there:
        raise ValueError(
            f"`{there[-1]}` was saved with `save_only_model`, without the optimizer, so the run cannot be taken up "
            "where it stopped. Give another `output_dir`."
        )


def _check_world_size(checkpoint: Path) -> None:
    """Other processes would deal the rows out otherwise, and draw otherwise: no resume would be exact."""
    saved = max(1, len(list(checkpoint.glob("rng_state_*.pth"))))
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if saved != started:
        raise ValueError(
            f"`{checkpoint}` was saved by {saved} processes, and {started} are to go on from it. Start {saved}, or "
            "give another `output_dir`."
        )


def _checkpoints(output_dir: Path) -> dict[int, Path]:
    """Step -> its checkpoint, whole or not."""
    matches = [(re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name), path) for path in output_dir.glob("*")]
    return dict(sorted((int(match[1]), path) for match, path in matches if match and path.is_dir()))


def _json(path: Path) -> Any:
    """What a file holds; None if it is not there or was cut off."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # of JSON, or of a character that was cut
        return None
