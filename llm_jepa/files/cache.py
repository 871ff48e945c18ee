"""The directory that caches fetched files, and the checksums of files."""

import hashlib
import os
from pathlib import Path


def cache_directory() -> Path:
    """`$LLM_JEPA_CACHE`, by default `~/.cache/llm_jepa`."""
    return Path(os.environ.get("LLM_JEPA_CACHE") or "~/.cache/llm_jepa").expanduser()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
