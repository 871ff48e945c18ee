"""Loads a recipe's data: a Hub id, a local JSON Lines, JSON, CSV, TSV, Parquet or text file, or a directory."""

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets.config
from datasets import Dataset, IterableDataset, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError
from datasets.packaged_modules.csv.csv import CsvConfig
from pandas.errors import ParserError

from llm_jepa.data.source import LOADERS, check_data_set, local_files
from llm_jepa.data.validation import validate_once
from llm_jepa.files.text_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES, read_lines

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource

TEXT_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SEPARATOR_NAMES = {",": "commas", ";": "`;`", "\t": "tabs", "|": "`|`"}
"""Separator of fields -> its name in messages."""
CSV_OPTIONS = {"keep_default_na": False, "na_values": [""]}
"""Only an empty field is missing. By default pandas treats `None`, `NA` and `null` as missing too."""


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
            dataset = _load(script, name, split, path)
            first = next(iter(dataset), None)
        if isinstance(dataset, Dataset):
            validate_once(dataset, split)
    except (DatasetGenerationError, ValueError) as error:
        _raise_for_unreadable_line(files)
        _raise_for_other_separator(files)
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
    _refuse_surplus_fields(files, first)
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
    files = local_files(Path(script.dataset_name).expanduser()) if script.dataset_name else []
    for file in files:
        if file.suffix in TEXT_SUFFIXES:
            for _ in islice(_limited_lines(file), None if max_rows is None else max_rows + 1):
                pass
    dataset = load_split(script, split)
    try:
        with _quiet_loaders():
            yield from islice(dataset, max_rows)
    except (DatasetGenerationError, ValueError, OSError) as error:
        _raise_for_unreadable_line(files)
        raise ValueError(f"`{script.dataset_name}` cannot be read further: {_reason(error)}") from error


@contextmanager
def stream_errors_explained(script: "AnySource") -> Iterator[None]:
    """Name the file and the line that end a stream of local files.

    Raises:
        ValueError: A line is not UTF-8 or not JSON, in place of the loader's error.
    """
    try:
        yield
    except (UnicodeDecodeError, DatasetGenerationError):
        assert script.dataset_name is not None
        _raise_for_unreadable_line(local_files(Path(script.dataset_name).expanduser()))
        raise


def _load(script: "AnySource", name: str, split: str, path: Path) -> Dataset | IterableDataset:
    if path.is_file():
        if script.dataset_config is not None:
            raise ValueError(f"`dataset_config: {script.dataset_config}` has no effect on a single file")
        options = CSV_OPTIONS | {"sep": SEPARATORS[path.suffix]} if path.suffix in SEPARATORS else {}
        return load_dataset(
            LOADERS[path.suffix], data_files=str(path), split=split, streaming=script.dataset_streaming, **options
        )
    source, cache = name, None
    if path.is_dir():
        source, cache = str(path.resolve()), str(_directory_cache(path))  # `datasets` does not accept `.`
    is_csv = isinstance(load_dataset_builder(source, script.dataset_config, cache_dir=cache).config, CsvConfig)
    options = CSV_OPTIONS if is_csv else {}
    return load_dataset(
        source,
        script.dataset_config,
        split=split,
        streaming=script.dataset_streaming,
        cache_dir=cache,
        **options,
    )


def _directory_cache(directory: Path) -> Path:
    """A cache for the files of a directory as they are now.

    `datasets` knows a directory with a card by its path alone, and would load what an earlier call found there.
    """
    files = [file for file in (directory / "README.md", *local_files(directory)) if file.is_file()]
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr(states).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "directories" / digest[:16]


def _limited_lines(file: Path) -> Iterator[str]:
    """The lines of a text file, whose size, or that of each line, is limited."""
    if not _is_document(file):
        return read_lines(file, MAX_LINE_BYTES)
    if file.stat().st_size > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"`{file}` is one JSON document of more than {MAX_DOCUMENT_BYTES} bytes. Convert it to JSON Lines, which "
            "are read line by line."
        )
    return read_lines(file, MAX_DOCUMENT_BYTES)


def _reason(error: Exception) -> str:
    """A loader's message as a sentence. The reason for a `DatasetGenerationError` is in its cause."""
    cause = error.__cause__ if type(error) is DatasetGenerationError and error.__cause__ else error
    advice = " Put a field that contains a separator between double quotes." if isinstance(cause, ParserError) else ""
    return " ".join(str(cause).split()).removesuffix(".") + f".{advice}"


def _advice(error: Exception, split: str, path: Path) -> str:
    """The remedy for an unknown split, and for files of several formats in one directory."""
    if str(error).startswith(("Unknown split", "Bad split")) and "[" not in split:
        return " To take a part of a split, write a slice, e.g. `train[90%:]`."
    if str(error).startswith("Couldn't infer the same data file format"):
        suffixes = sorted({file.suffix for file in path.rglob("*")} & {*LOADERS}) if path.is_dir() else []
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


def _refuse_surplus_fields(files: Sequence[Path], first: Mapping[str, Any]) -> None:
    """Refuse CSV rows with more fields than the header: pandas would take the first fields as an index."""
    is_csv = bool(files) and all(file.suffix in SEPARATORS for file in files)
    if is_csv and any(name.startswith("__index_level_") for name in first):
        raise ValueError(
            f"The rows of `{files[0]}` have more fields than its header has names. Put a field that contains a "
            "separator between double quotes, or name every field."
        )


def _raise_for_other_separator(files: Iterable[Path]) -> None:
    """Raise for the first CSV or TSV file whose first line has another separator than the suffix says."""
    for file in files:
        if file.suffix not in SEPARATORS:
            continue
        own = SEPARATORS[file.suffix]
        lines = (line.strip("\r\n") for line in read_lines(file, MAX_LINE_BYTES))
        header = next(filter(None, lines), "")
        other = next((sign for sign in SEPARATOR_NAMES if sign != own and sign in header), None)
        if own in header or other is None:
            continue
        suffix = next((suffix for suffix, sign in SEPARATORS.items() if sign == other), None)
        convert = f"pandas.read_csv(FILE, sep={other!r}, dtype=str, keep_default_na=False).to_csv(NEW, index=False)"
        remedy = f"rename it to `{file.stem}{suffix}`" if suffix else f"`{convert}` writes a `.csv`"
        raise ValueError(
            f"`{file}` seems to be separated by {SEPARATOR_NAMES[other]}: its first line is {header!r:.60}. The "
            f"fields of a `{file.suffix}` file are separated by {SEPARATOR_NAMES[own]}; {remedy}."
        )


def _raise_for_unreadable_line(files: Iterable[Path]) -> None:
    """Raise for the first line of the text files that is not UTF-8 or not JSON, if any."""
    for file in files:
        if file.suffix in TEXT_SUFFIXES:
            for _ in read_lines(file):
                pass
        if LOADERS[file.suffix] == "json":
            _check_json(file)


def _check_json(file: Path) -> None:
    """Raise unless each line is a JSON object, or the file is one JSON document."""
    if _is_document(file):
        try:
            json.loads(file.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as error:
            raise ValueError(f"`{file}`, line {error.lineno}: not JSON: {error.msg}.") from error
        return
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"`{file}`, line {number}: not JSON: {error.msg} (column {error.colno}).") from error
            if not isinstance(row, dict):
                raise ValueError(f"`{file}`, line {number}: a row must be an object, not {json.dumps(row)[:40]}.")


def _is_document(file: Path) -> bool:
    """Whether a file is one JSON document: it ends in `.json`, and its first line is not an object."""
    if file.suffix != ".json":
        return False
    with file.open("rb") as lines:
        line = lines.readline(MAX_LINE_BYTES)
    try:
        return not isinstance(json.loads(line), dict)
    except ValueError:
        return True
