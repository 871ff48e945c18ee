"""Loads a directory that `save_to_disk` of `datasets` wrote: one data set, which is the split `train`, or several."""

from pathlib import Path

from datasets import Dataset, DatasetDict, IterableDataset, ReadInstruction, concatenate_datasets, load_from_disk
from datasets.fingerprint import Hasher

from llm_jepa.data.local_splits import names_in_split, saved_files
from llm_jepa.files.pieces import files_digest


def load_saved(path: Path, split: str, config: str | None, streams: bool) -> Dataset | IterableDataset:
    """A split of a saved data set, or a slice of it such as `train[:90%]`, without the format that it was saved with.

    Raises:
        ValueError: There is no such split, or a configuration is named.
    """
    if config is not None:
        raise ValueError(f"`dataset_config: {config}` has no effect on a saved data set")
    saved = load_from_disk(str(path))
    splits = dict(saved) if isinstance(saved, DatasetDict) else {"train": saved}
    unknown = [name for name in names_in_split(split) if name not in splits]
    if unknown:
        raise ValueError(f'Unknown split "{unknown[0]}". Should be one of {list(splits)}.')
    lengths = {name: len(rows) for name, rows in splits.items()}
    parts = ReadInstruction.from_spec(split).to_absolute(lengths)
    files = saved_files(path)
    whole = {part.splitname: _known_by_content(splits[part.splitname], files[part.splitname]) for part in parts}
    rows = [_part(whole[part.splitname], part.from_, part.to) for part in parts]
    dataset = rows[0] if len(rows) == 1 else concatenate_datasets(rows)
    return dataset.to_iterable_dataset() if streams else dataset


def _known_by_content(rows: Dataset, files: list[Path]) -> Dataset:
    """The rows with a fingerprint of what the files hold, too.

    `datasets` keys its cache of prepared rows by the fingerprint that it saved, which stays the same when the rows
    come from a generator, or from an imported function, that gives others now.
    """
    fingerprint = Hasher.hash((rows._fingerprint, files_digest(files)))
    return Dataset(rows.data, rows.info, rows.split, fingerprint=fingerprint)


def _part(rows: Dataset, start: int, stop: int) -> Dataset:
    return rows if (start, stop) == (0, len(rows)) else rows.select(range(start, stop))
