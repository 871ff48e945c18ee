"""Finds a data set in local files or on the Hub. Imports neither `datasets` nor torch."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

LOADERS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text",
}  # fmt: skip
"""File name suffix -> loader of `datasets`. A local file is one split, `train`. Each line of a `.txt` is a row."""
HUB_TIMEOUT_SECONDS = 5.0


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


def local_files(path: Path) -> list[Path]:
    """The data files of a local data set; an empty list for a Hub id.

    Raises:
        ValueError: The path does not exist or has no data files.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in LOADERS)
        if not files:
            raise ValueError(f"The directory `{path}` has no file that ends in {', '.join(LOADERS)}.")
        return [file for file in files if file.suffix != ".txt"] or files  # a `.txt` beside data files is a note
    if path.is_file():
        if path.suffix not in LOADERS:
            raise ValueError(f"`{path}` must end in one of {', '.join(LOADERS)}.")
        return [path]
    looks_like_a_path = path.suffix in LOADERS or path.is_absolute() or len(path.parts) > 2
    if looks_like_a_path:
        raise ValueError(f"There is no file or directory `{path}` (looked in {Path.cwd()}).")
    return []


def check_local_data(name: str) -> list[Path]:
    """Check the files of a local data set, and return them; a Hub id passes with none.

    Raises:
        ValueError: The data set has no data file, or an empty one.
    """
    files = local_files(Path(name).expanduser())
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
