"""Stores what a model computed batch by batch, so that an interrupted evaluation resumes where it stopped."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm_jepa.evaluation.generation import Completion


class PredictionLog:
    """A JSONL file of completions and log-probabilities of choices, appended to after each batch.

    It is kept until the scores are written (`discard_log`). A kill can tear its last line, which is then cut off.

    Args:
        path: The file. Its first line is a hash of `identity`.
        identity: Everything that affects the content: model, prompts, choices, limits, batch size. A file with another
            identity is overwritten.

    Attributes:
        completions: Those stored, by prompt number.
        log_probs: Those stored, by the choice's number among the choices of all prompts.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path = path
        self.completions: dict[int, Completion] = {}
        self.log_probs: dict[int, float] = {}
        key = {"key": hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()}
        found, size_bytes = _whole_records(path.read_bytes()) if path.is_file() else ([], 0)
        if not found or found[0] != key:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(key) + "\n", encoding="utf-8")
            return
        with path.open("rb+") as file:
            file.truncate(size_bytes)
        for record in found[1:]:
            if "log_prob" in record:
                self.log_probs[record["choice"]] = record["log_prob"]
            else:
                index = record.pop("index")
                self.completions[index] = Completion(**record)

    def append_completions(self, completions: Mapping[int, Completion]) -> None:
        """Add the completions of one batch."""
        self._append({"index": i, **asdict(one)} for i, one in completions.items())

    def append_log_probs(self, log_probs: Mapping[int, float]) -> None:
        """Add the log-probabilities of one batch."""
        self._append({"choice": i, "log_prob": log_prob} for i, log_prob in log_probs.items())

    def _append(self, records: Iterable[dict[str, Any]]) -> None:
        with self.path.open("ab") as file:
            file.write("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode())


def log_path(directory: Path, checkpoint: str) -> Path:
    """The log of a checkpoint whose evaluation is not complete."""
    return directory / f"predictions-{checkpoint}.partial.jsonl"


def discard_log(directory: Path, checkpoint: str) -> None:
    """Delete the log of a checkpoint, once its predictions and scores are written."""
    log_path(directory, checkpoint).unlink(missing_ok=True)


def weights_identity(location: str) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the weights in a local directory; empty for a Hub id, which has a revision."""
    files = sorted(Path(location).glob("*.safetensors")) if Path(location).is_dir() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _whole_records(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The records up to the first line that is not whole, and the size in bytes of their lines.

    Only `\\n` ends a line: `str.splitlines` would also split at U+2028 and U+0085, which a text may hold.
    Example: `{"a": 1}\\n{"b"` has one record of 9 bytes.
    """
    records, size_bytes = [], 0
    for line in content.split(b"\n")[:-1]:
        try:
            records.append(json.loads(line))
        except ValueError:  # not JSON, or not UTF-8
            break
        size_bytes += len(line) + 1
    return records, size_bytes
