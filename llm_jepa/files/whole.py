"""Text files that are whole or not there, whenever the writer is killed."""

import os
from pathlib import Path


def write_whole(text: str, path: Path) -> None:
    """Write a file beside its place, and put it there when it is whole."""
    partial_path(path).write_text(text, encoding="utf-8")
    os.replace(partial_path(path), path)


def partial_path(path: Path) -> Path:
    """Where a file is until it is whole."""
    return path.with_name(f"{path.name}.partial")
