"""Checks once that the texts of a loaded data set are UTF-8, which reads its Arrow files as a whole."""

import hashlib
from contextlib import suppress
from pathlib import Path

from datasets import Dataset


def validate_once(dataset: Dataset, split: str) -> None:
    """Validate the rows of a split, unless an earlier call has found the same files valid.

    An empty file beside the Arrow files notes it. Its name depends on the split and on their paths, sizes and times.

    Raises:
        ValueError: A text is not UTF-8. The JSON loader accepts such bytes.
    """
    note = _note(dataset, split)
    if note is not None and note.exists():
        return
    dataset.data.validate(full=True)
    if note is not None:
        with suppress(OSError):  # a cache that others own is validated at each start
            note.touch()


def _note(dataset: Dataset, split: str) -> Path | None:
    """Where it is noted that the split is valid; None for a data set in memory."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files:
        return None
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr((split, states)).encode()).hexdigest()
    return files[0].parent / f"valid-{digest[:16]}"
