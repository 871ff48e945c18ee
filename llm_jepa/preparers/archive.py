"""Files inside a zip archive, found by the end of their path, whatever folder they were packed in."""

import shutil
import zipfile
from pathlib import Path


def find_member(archive: zipfile.ZipFile, path: str) -> str:
    """The name of the one member that is `path`, or ends in `/path`. Those of `__MACOSX` do not count.

    Raises:
        ValueError: There is none, or more than one.
    """
    found = [name for name in archive.namelist() if f"/{name}".endswith(f"/{path}") and "__MACOSX" not in name]
    if len(found) != 1:
        raise ValueError(f"`{archive.filename}` has {len(found)} files `{path}`; one is needed.")
    return found[0]


def extract_member(archive: zipfile.ZipFile, path: str, destination: Path) -> None:
    """Write a member to `destination`, in pieces; errors of `find_member`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(find_member(archive, path)) as packed, destination.open("wb") as file:
        shutil.copyfileobj(packed, file)


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive.

    Raises:
        ValueError: It is none.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"`{path}` is no zip archive: {error}.") from error
