"""Atomic writes of text files: a killed writer leaves the old file or the new one, never a part."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(text: str, path: Path) -> None:
    """Write a file under `partial_path`, then rename it to `path`."""
    partial_path(path).write_text(text, encoding="utf-8")
    os.replace(partial_path(path), path)


def partial_path(path: Path) -> Path:
    """The name of a file while it is being written."""
    return path.with_name(f"{path.name}.partial")


def write_json(content: Any, path: Path) -> None:
    """Write JSON atomically."""
    write_atomically(json.dumps(content, indent=1, ensure_ascii=False) + "\n", path)
