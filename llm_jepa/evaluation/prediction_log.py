"""Stores completions batch by batch, so that an interrupted evaluation resumes where it stopped."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_jepa.evaluation.generation import Completion


class PredictionLog:
    """A JSONL file of completions: appended to after each batch, removed when all are finished.

    Args:
        path: The file. Its first line is a hash of `identity`.
        identity: Everything that affects the completions: model, prompts, limits, batch size. A file with another
            identity is overwritten.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = path
        self._key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        self.finished = self._read()
        if not self.finished:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"key": self._key}) + "\n", encoding="utf-8")

    def append(self, completions: Mapping[int, Completion]) -> None:
        """Add the completions of one batch, by prompt index."""
        lines = [json.dumps({"index": i, **asdict(one)}, ensure_ascii=False) for i, one in completions.items()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def remove(self) -> None:
        """Delete the file, once all completions are stored elsewhere."""
        self.path.unlink()

    def _read(self) -> dict[int, Completion]:
        if not self.path.is_file():
            return {}
        rows = list(_whole_lines(self.path.read_text(encoding="utf-8").splitlines()))
        if not rows or rows[0].get("key") != self._key:
            return {}
        return {row.pop("index"): Completion(**row) for row in rows[1:]}


def weights_identity(location: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the weights in a local directory; empty for a Hub id, which has a revision."""
    files = sorted(Path(location).glob("*.safetensors")) if Path(location).is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _whole_lines(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Parsed lines, up to the first one that a kill truncated."""
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
