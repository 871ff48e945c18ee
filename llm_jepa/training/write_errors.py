"""Explains an error while a checkpoint or the model is written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.distributed import DistError

from llm_jepa.training.checkpoints import last_whole_checkpoint


class WriteError(RuntimeError):
    """A checkpoint or the model could not be written. The message says which checkpoint is kept."""


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
