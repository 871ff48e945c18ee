"""Finds a data set in local files or on the Hub. Imports neither `datasets` nor torch."""

import csv
import functools
import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from llm_jepa.files.paths import looks_like_a_path

LOADERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text",
    ".arrow": "arrow",
}  # fmt: skip
"""File name suffix -> loader of `datasets`. A local file is one split, `train`. The rows of a
`.txt` are its lines that are not blank."""
TEXT_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt")
PACKED_SUFFIXES = (".gz", ".zst")
"""What the name of a JSON, CSV or TSV file may end in further."""
SAVED_DATASET, SAVED_DATASET_DICT = "state.json", "dataset_dict.json"
"""The files by which a directory that `save_to_disk` wrote is known: one data set, or several splits."""
HUB_TIMEOUT_SECONDS = 5.0
DELIMITERS = {".csv": ",", ".tsv": "\t"}
QUOTING: dict[str, Literal[0, 3]] = {",": csv.QUOTE_MINIMAL, "\t": csv.QUOTE_NONE}
"""Separator of fields -> what quotes mean. Between tabs they are part of the text, as the TSV standard has it."""


@dataclass(frozen=True)
class DataSource:
    """The fields of TRL's `ScriptArguments` that loading reads, for code that does not import TRL."""

    dataset_name: str | None
    dataset_config: str | None = None
    dataset_train_split: str = "train"
    dataset_test_split: str = "test"
    dataset_streaming: bool = False


if TYPE_CHECKING:
    from trl import ScriptArguments

    AnySource: TypeAlias = DataSource | ScriptArguments


def data_suffix(file: Path) -> str:
    """The suffix that says a file's format: of `rows.jsonl.gz` it is `.jsonl`. Empty if no data file ends so."""
    stem = Path(file.stem)
    if file.suffix in PACKED_SUFFIXES and LOADERS.get(stem.suffix) in ("json", "csv"):
        return stem.suffix
    return file.suffix if file.suffix in LOADERS else ""


def is_saved_dataset(path: Path) -> bool:
    """Whether `save_to_disk` wrote a directory."""
    return (path / SAVED_DATASET).is_file() or (path / SAVED_DATASET_DICT).is_file()


def local_files(name: str | Path) -> list[Path]:
    """The data files of a local data set; an empty list for a Hub id. As for `datasets`, hidden files are none.

    Raises:
        ValueError: The path does not exist or has no data files.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if is_saved_dataset(path):
            return sorted(path.rglob("*.arrow"))
        files = sorted(file for file in path.rglob("*") if data_suffix(file) and not _is_hidden(file, path))
        if not files:
            raise ValueError(f"The directory `{path}` has no file that ends in {', '.join(LOADERS)}.")
        return [file for file in files if data_suffix(file) != ".txt"] or files  # a `.txt` beside data is a note
    if path.is_file():
        if not data_suffix(path):
            raise ValueError(
                f"`{path}` must end in one of {', '.join(LOADERS)}; {' or '.join(PACKED_SUFFIXES)} may follow that of "
                "JSON, CSV or TSV."
            )
        return [path]
    if data_suffix(path) or looks_like_a_path(str(name)):
        raise ValueError(f"There is no file or directory `{path}` (looked in {Path.cwd()}).")
    return []


def _is_hidden(file: Path, directory: Path) -> bool:
    *folders, name = file.relative_to(directory).parts
    return name.startswith(".") or any(folder.startswith((".", "__")) for folder in folders)


def check_local_data(name: str) -> list[Path]:
    """Check the files of a local data set, and return them; a Hub id passes with none.

    Raises:
        ValueError: The data set has no data file, or an empty one, or is a directory with signs of a pattern in its
            path, which `datasets` cannot load.
    """
    files = local_files(name)
    path = Path(name).expanduser().resolve()
    if path.is_dir() and not is_saved_dataset(path) and glob.escape(str(path)) != str(path):
        raise ValueError(
            f"The path of the directory `{path}` contains `*`, `?` or `[`, which `datasets` takes for a pattern. "
            "Rename the directory, or name one of its files."
        )
    for file in files:
        if file.stat().st_size == 0:
            raise ValueError(f"`{file}` is empty.")
    return files


def check_data_set(name: str) -> None:
    """Check that a data set exists.

    Raises:
        ValueError: As `check_local_data`; or no data set of this name exists here or on the Hub, or the Hub does not
            answer and the data set is not in the cache.
    """
    if not check_local_data(name) and os.environ.get("LOCAL_RANK", "0") == "0":
        _check_on_hub(name)


@functools.cache
def _check_on_hub(name: str) -> None:
    """Ask the Hub once; `datasets` would retry for 25 seconds if it does not answer."""
    from huggingface_hub import HfApi, constants

    from llm_jepa.files.hub_errors import hub_errors_explained

    datasets_cache = Path(os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets"))
    hub_cache = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    is_offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_DATASETS_OFFLINE", "0").upper() in ("1", "TRUE", "YES")
    if is_offline or hub_cache.exists() or _is_in(datasets_cache, name):
        return  # `datasets` reads its cache
    with hub_errors_explained(name, "read"):
        HfApi().dataset_info(name, timeout=HUB_TIMEOUT_SECONDS)


def _is_in(datasets_cache: Path, name: str) -> bool:
    """Whether `datasets` has prepared a data set: it writes `org/MyData` as `org___my_data`."""
    wanted = name.replace("/", "").replace("_", "").lower()
    return datasets_cache.is_dir() and any(path.name.replace("_", "") == wanted for path in datasets_cache.iterdir())
