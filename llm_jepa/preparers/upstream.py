"""The published files of a data set: fetched or found, checked, read."""

import hashlib
import json
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError

from llm_jepa.files.cache import cache_directory, sha256_of
from llm_jepa.preparers.records import NOT_AS_PUBLISHED, UNCHECKED_HINT, Record, checked_records, read_records

TIMEOUT_SECONDS = 30.0
HUB_SCHEME = "hf://datasets/"
# How a Hub that cannot be used shows itself: see `llm_jepa.models.known_models`.
FETCH_ERRORS = (HTTPError, HTTPException, OSError, RuntimeError, json.JSONDecodeError)


class _NotFetchedError(ValueError):
    """A file did not come from where it was published."""


@dataclass(frozen=True)
class UpstreamFile:
    """A file as it was published.

    Parameters:
        name: What it is called in an `--input_dir`.
        location: `https://...`, or `hf://datasets/OWNER/NAME/PATH` on the Hub.
        checksum: `sha256:...` or `git:...` (the file's blob id in a git repository), where it is known; else None.
        num_rows: Its published number of rows; None if it is no file of rows.
    """

    name: str
    location: str
    checksum: str | None = None
    num_rows: int | None = None


@dataclass(frozen=True)
class Input:
    """A file to prepare rows from.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes.
        location: Where it was published; None for a file of the user's own.
        verdict: What its checksum was compared with, in words.
        num_rows: How many rows it must have; None if that is not to be checked.
        column_hint: What to do when its first record lacks a column.
    """

    path: Path
    sha256: str
    location: str | None = None
    verdict: str = "a file of your own"
    num_rows: int | None = None
    column_hint: str = NOT_AS_PUBLISHED

    def records(self) -> Iterator[Record]:
        """Its records.

        Raises:
            ValueError: It cannot be read, or (once all are read) it has not the published number of rows.
        """
        return checked_records(read_records(self.path), f"`{self.path}`", self.num_rows, self.column_hint)


def own_input(path: Path, column_hint: str = "") -> Input:
    """A file of the user's own; `column_hint` says how to name its columns.

    Raises:
        ValueError: There is none.
    """
    if not path.is_file():
        raise ValueError(f"There is no file `{path}` (looked in {Path.cwd()}).")
    return Input(path, sha256_of(path), column_hint=column_hint)


def find_inputs(
    files: Mapping[str, UpstreamFile], set_name: str, input_dir: Path | None, unchecked: bool = False
) -> dict[str, Input]:
    """The published files of a data set, from a directory or from where they were published, checksums compared.

    What is fetched is kept in `$LLM_JEPA_CACHE/data` (default: `~/.cache/llm_jepa/data`), or in the Hub's own cache.

    Args:
        files: Key -> file.
        set_name: Of the data set: names the directory in the cache.
        input_dir: Where the files are to be found; None to fetch them.
        unchecked: Whether another checksum or number of rows is taken too.

    Raises:
        ValueError: There is no such directory, files are not there or cannot be fetched, or the checksum of one is
            another.
    """
    if input_dir is not None:
        if not input_dir.is_dir():
            what = "is a file; give the directory in which it lies" if input_dir.exists() else "is not there"
            raise ValueError(f"The directory `--input_dir {input_dir}` {what} (looked in {Path.cwd()}).")
        missing = [file for file in files.values() if not (input_dir / file.name).is_file()]
        if missing:
            names = ", ".join(f"`{input_dir / file.name}`" for file in missing)
            raise ValueError(f"There is no file {names}. {_how_to_provide(missing)}")
        return {key: _checked(input_dir / file.name, file, unchecked) for key, file in files.items()}
    try:
        paths = {key: _fetch(file, set_name, unchecked) for key, file in files.items()}
    except _NotFetchedError as error:
        raise ValueError(f"{error} {_how_to_provide(files.values())}") from error
    return {key: _checked(path, files[key], unchecked) for key, path in paths.items()}


def _checked(path: Path, file: UpstreamFile, unchecked: bool) -> Input:
    found = _checksum(path, file.checksum)
    kind, _, digest = (found or "").partition(":")
    sha256 = digest if kind == "sha256" else sha256_of(path)
    if found != file.checksum and not unchecked:
        raise ValueError(
            f"`{path}` is not the published file: its checksum is {found}, not {file.checksum}. "
            f"{_how_to_provide([file])} {UNCHECKED_HINT}"
        )
    if found is None:
        verdict = "no published checksum is known to this script"
    elif found == file.checksum:
        verdict = "as published" if kind == "sha256" else f"as published ({found})"
    else:
        verdict = f"**not the published file**: {found}, not {file.checksum}"
    return Input(path, sha256, file.location, verdict, None if unchecked else file.num_rows)


def git_blob_id(path: Path) -> str:
    """The id that git gives to a file's contents: sha1("blob {bytes}\\0" + contents)."""

    def begin() -> "hashlib._Hash":
        return hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)

    with path.open("rb") as file:
        return hashlib.file_digest(file, begin).hexdigest()


def _checksum(path: Path, published: str | None) -> str | None:
    """A file's checksum of the kind that was published; None if none was."""
    if published is None:
        return None
    kind = published.partition(":")[0]
    found = {"sha256": sha256_of, "git": git_blob_id}[kind](path)
    return f"{kind}:{found}"


def _fetch(file: UpstreamFile, set_name: str, unchecked: bool) -> Path:
    try:
        if file.location.startswith(HUB_SCHEME):
            owner, name, path = file.location.removeprefix(HUB_SCHEME).split("/", 2)
            return Path(hf_hub_download(f"{owner}/{name}", path, repo_type="dataset"))
        return _download(file, cache_directory() / "data" / set_name, unchecked)
    except FETCH_ERRORS as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()[:300].rstrip(".")
        raise _NotFetchedError(f"`{file.name}` cannot be fetched from {file.location}: {reason}.") from error


def _download(file: UpstreamFile, directory: Path, unchecked: bool) -> Path:
    """The file in the cache, moved there only once it is whole and, unless `unchecked`, its checksum right."""
    path = directory / file.name
    # One that was fetched unchecked is fetched again.
    if path.is_file() and (unchecked or _checksum(path, file.checksum) == file.checksum):
        return path
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as staging:
            return _fetched(file, Path(staging) / file.name, unchecked).replace(path)
    finally:
        for left in (directory, directory.parent):
            with suppress(OSError):  # it is not empty
                left.rmdir()


def _fetched(file: UpstreamFile, copy: Path, unchecked: bool) -> Path:
    """The file, written to `copy`.

    Raises:
        OSError: It did not come, or not whole, or (unless `unchecked`) has another checksum.
    """
    with urllib.request.urlopen(file.location, timeout=TIMEOUT_SECONDS) as response, copy.open("wb") as written:
        shutil.copyfileobj(response, written)
    expected_bytes = response.headers.get("Content-Length")
    if expected_bytes is not None and copy.stat().st_size != int(expected_bytes):
        raise OSError(f"{copy.stat().st_size} of {expected_bytes} bytes came")
    found = _checksum(copy, file.checksum)
    if found != file.checksum and not unchecked:
        raise OSError(f"what came has the checksum {found}, not {file.checksum}. {UNCHECKED_HINT}")
    return copy


def _how_to_provide(files: Iterable[UpstreamFile]) -> str:
    places = ", ".join(f"`{file.name}` from {_web_address(file)}" for file in files)
    return f"Without a network: put into a directory {places}, and give that directory as `--input_dir`."


def _web_address(file: UpstreamFile) -> str:
    if not file.location.startswith(HUB_SCHEME):
        return file.location
    owner, name, path = file.location.removeprefix(HUB_SCHEME).split("/", 2)
    return f"https://huggingface.co/datasets/{owner}/{name}/resolve/main/{path}"
