"""Loads a recipe's data: a Hub id, a local file or a directory.

How each format's values become texts is in `llm_jepa.data.text_builders`.
"""

import dataclasses
import glob
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets.config
from datasets import Dataset, IterableDataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError

from llm_jepa.data.json_lines import is_document
from llm_jepa.data.local_splits import check_every_file_is_read
from llm_jepa.data.saved_datasets import load_saved
from llm_jepa.data.source import (
    DELIMITERS,
    LOADERS,
    TEXT_SUFFIXES,
    check_data_set,
    data_suffix,
    is_saved_dataset,
    local_files,
)
from llm_jepa.data.text_builders import JsonRows, with_exact_reader
from llm_jepa.data.validation import validate_once
from llm_jepa.files.pieces import files_digest
from llm_jepa.files.text_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES, UnreadableLineError, read_lines

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource

SEPARATOR_NAMES = {",": "commas", ";": "`;`", "\t": "tabs", "|": "`|`"}
"""Separator of fields -> its name in messages."""
NO_ROWS = "corresponds to no data"
"""What `datasets` says of an empty slice."""


def load_split(script: "AnySource", split: str) -> Dataset | IterableDataset:
    """Load one split of `script.dataset_name`.

    Args:
        script: TRL's `ScriptArguments`; `dataset_name`, `dataset_config` and `dataset_streaming` are used.
        split: A split's name, e.g. `train`, or (not in streaming) a slice of it, e.g. `train[:1000]`.

    Raises:
        ValueError: The data set or the split does not exist, the split has no rows, or a file cannot be read. The
            message names the file and line that is not JSON or not UTF-8. Only the first rows of a stream are checked;
            see `stream_errors_explained`.
    """
    return _load_split(script, split, checks_first_rows=True)


def _load_split(script: "AnySource", split: str, checks_first_rows: bool) -> Dataset | IterableDataset:
    name = script.dataset_name
    if name is None:
        raise ValueError("`dataset_name` must be given: a Hub id, a local file or a directory.")
    if script.dataset_streaming and re.search(r"[\[+]", split):
        raise ValueError(
            f"Split `{split}` of `{name}` is a slice, which a stream cannot take. Name a whole split, or set "
            "`dataset_streaming: false`."
        )
    path = Path(name).expanduser()
    check_data_set(name)
    files = local_files(path)
    try:
        with _quiet_loaders():
            dataset = _load(script, name, split, path, checks_first_rows)
            first = next(iter(dataset), None)
        if isinstance(dataset, Dataset):
            validate_once(dataset, split)
    except (DatasetGenerationError, ValueError) as error:
        _raise_for_other_separator(files)
        unreadable = error.__cause__ if isinstance(error, DatasetGenerationError) else error
        if isinstance(unreadable, UnreadableLineError):
            raise UnreadableLineError(_as_given(unreadable, files)) from error
        _raise_for_unreadable_line(files)
        if NO_ROWS in str(unreadable):
            raise ValueError(f"Split `{split}` of `{name}` has no rows.") from error
        raise ValueError(
            f"Split `{split}` of `{name}` cannot be loaded: {_reason(error)}{_advice(error, split, path)}"
        ) from error
    except OSError as error:
        looked = "" if files else f"There is no file or directory `{name}` (looked in {Path.cwd()}). "
        raise ValueError(f"{looked}`{name}` cannot be loaded: {_reason(error)}") from error
    if first is None:
        raise ValueError(f"Split `{split}` of `{name}` has no rows.")
    if not set(SEPARATOR_NAMES).isdisjoint("".join(first)):
        _raise_for_other_separator(files)
    return dataset


def stream_rows(script: "AnySource", split: str, max_rows: int | None = None) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a split in bounded memory.

    Text files are read twice: first to check the encoding and the length of their lines.

    Args:
        script: As for `load_split`; the data are streamed whatever `dataset_streaming` says.
        split: A whole split.
        max_rows: At most so many rows are read, and so many lines of each text file checked.

    Raises:
        ValueError: As `load_split`, for every row; or a line, or a `.json` file that is one document, is too large.
    """
    script = dataclasses.replace(script, dataset_streaming=True)
    files = local_files(script.dataset_name) if script.dataset_name else []
    for file in files:
        if data_suffix(file) in TEXT_SUFFIXES:
            for _ in islice(_limited_lines(file), None if max_rows is None else max_rows + 1):
                pass
    dataset = _load_split(script, split, checks_first_rows=False)
    try:
        with _quiet_loaders():
            yield from islice(dataset, max_rows)
    except UnreadableLineError as error:
        raise UnreadableLineError(_as_given(error, files)) from error
    except (DatasetGenerationError, ValueError, OSError) as error:
        _raise_for_unreadable_line(files)
        raise ValueError(f"`{script.dataset_name}` cannot be read further: {_reason(error)}") from error


@contextmanager
def stream_errors_explained(script: "AnySource") -> Iterator[None]:
    """Name the file and the line that end a stream of local files. The reader of JSON does so itself.

    Raises:
        ValueError: A line is not UTF-8, in place of the loader's error.
    """
    try:
        yield
    except (UnicodeDecodeError, DatasetGenerationError):
        assert script.dataset_name is not None
        _raise_for_unreadable_line(local_files(script.dataset_name))
        raise


def _load(
    script: "AnySource", name: str, split: str, path: Path, checks_first_rows: bool
) -> Dataset | IterableDataset:
    if is_saved_dataset(path):
        return load_saved(path, split, script.dataset_config, script.dataset_streaming)
    if path.is_file():
        if script.dataset_config is not None:
            raise ValueError(f"`dataset_config: {script.dataset_config}` has no effect on a single file")
        suffix = data_suffix(path)
        options = {"sep": DELIMITERS[suffix]} if suffix in DELIMITERS else {}
        pattern = glob.escape(str(path.absolute()))
        found = load_dataset_builder(LOADERS[suffix], data_files=pattern, cache_dir=_cache_of([path]), **options)
    elif path.is_dir():  # `datasets` does not accept `.`
        cache = _cache_of([file for file in (path / "README.md", *local_files(path)) if file.is_file()])
        found = load_dataset_builder(str(path.resolve()), script.dataset_config, cache_dir=cache)
        check_every_file_is_read(path, found)
    else:
        found = load_dataset_builder(name, script.dataset_config)
    builder = with_exact_reader(found)
    if script.dataset_streaming:
        stream = builder.as_streaming_dataset(split=split)
        if checks_first_rows and isinstance(builder, JsonRows) and builder.unreadable is not None:
            raise builder.unreadable
        return stream
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def _cache_of(files: list[Path]) -> str:
    """A cache for files as they are now.

    `datasets` knows a file by its path and time, and a directory with a card by its path alone. It would load what an
    earlier call found there.
    """
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "local_files" / files_digest(files))


def _limited_lines(file: Path) -> Iterator[str]:
    """The lines of a text file, whose size, or that of each line, is limited."""
    if LOADERS[data_suffix(file)] != "json" or not is_document(file):
        return read_lines(file, MAX_LINE_BYTES)
    if file.stat().st_size > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"`{file}` is one JSON document of more than {MAX_DOCUMENT_BYTES} bytes. Convert it to JSON Lines, which "
            "are read line by line."
        )
    return read_lines(file, MAX_DOCUMENT_BYTES)


def _as_given(error: Exception, files: Iterable[Path]) -> str:
    """The message of a reader, with each file's path as the user gave it."""
    message = str(error)
    for file in files:
        message = message.replace(f"`{file.resolve()}`", f"`{file}`")
    return message


def _reason(error: Exception) -> str:
    """A loader's message as a sentence. The reason for a `DatasetGenerationError` is in its cause."""
    cause = error.__cause__ if type(error) is DatasetGenerationError and error.__cause__ else error
    return " ".join(str(cause).split()).removesuffix(".") + "."


def _advice(error: Exception, split: str, path: Path) -> str:
    """The remedy for an unknown split, and for files of several formats in one directory."""
    if str(error).startswith(("Unknown split", "Bad split")) and "[" not in split:
        return " To take a part of a split, write a slice, e.g. `train[90%:]`."
    if str(error).startswith("Couldn't infer the same data file format"):
        suffixes = sorted({data_suffix(file) for file in local_files(path)}) if path.is_dir() else []
        held = f"; `{path}` has {', '.join(suffixes)}" if suffixes else ""
        return f" The files of one directory must have one format{held}."
    return ""


@contextmanager
def _quiet_loaders() -> Iterator[None]:
    """Silence the loaders of `datasets`, which log the errors that they raise."""
    log = logging.getLogger("datasets.packaged_modules")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _raise_for_other_separator(files: Iterable[Path]) -> None:
    """Raise for the first CSV or TSV file whose first line has another separator than the suffix says."""
    for file in files:
        own = DELIMITERS.get(data_suffix(file))
        if own is None:
            continue
        lines = (line.strip("\r\n") for line in read_lines(file, MAX_LINE_BYTES))
        header = next(filter(None, lines), "")
        other = next((sign for sign in SEPARATOR_NAMES if sign != own and sign in header), None)
        if own in header or other is None:
            continue
        suffix = next((suffix for suffix, sign in DELIMITERS.items() if sign == other), None)
        convert = f"pandas.read_csv(FILE, sep={other!r}, dtype=str, keep_default_na=False).to_csv(NEW, index=False)"
        renamed = file.name.replace(data_suffix(file), suffix or "")
        remedy = f"rename it to `{renamed}`" if suffix else f"`{convert}` writes a `.csv`"
        raise ValueError(
            f"`{file}` seems to be separated by {SEPARATOR_NAMES[other]}: its first line is {header!r:.60}. The "
            f"fields of a `{data_suffix(file)}` file are separated by {SEPARATOR_NAMES[own]}; {remedy}."
        )


def _raise_for_unreadable_line(files: Iterable[Path]) -> None:
    """Raise for the first line of the text files that is not UTF-8, if any."""
    for file in files:
        if data_suffix(file) in TEXT_SUFFIXES:
            for _ in read_lines(file):
                pass
