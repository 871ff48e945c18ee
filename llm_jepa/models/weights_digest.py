"""A digest of a checkpoint's weights, to tell checkpoints apart. Imports no torch."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from llm_jepa.models.local_files import artifact_kind

MODEL_WEIGHTS = ("*.safetensors", "*.bin")
WEIGHTS = {
    "adapter": ("adapter_model.safetensors", "adapter_model.bin"),
    "model": MODEL_WEIGHTS,
    "vision": MODEL_WEIGHTS,
}
NUM_PIECES, PIECE_BYTES = 64, 2**20


def weights_digest(directory: Path) -> str:
    """SHA-256 of names, sizes and contents of the weights of a model or an adapter.

    Of a file above 64 MiB it reads 64 pieces of 1 MiB, spread evenly: a step of training changes nearly every weight,
    and reading a large model twice would take as long as loading it.

    Raises:
        ValueError: The directory holds neither.
    """
    patterns = WEIGHTS[artifact_kind(directory)]
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in directory.glob(pattern)}):
        digest.update(f"{path.name}\n{path.stat().st_size}\n".encode())
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    """Example: a file of 640 MiB is read from 0, 10.14, ..., 639 MiB on, so that the last piece ends with the file."""
    size_bytes = path.stat().st_size
    last = max(0, size_bytes - PIECE_BYTES)
    with path.open("rb") as file:
        if size_bytes <= NUM_PIECES * PIECE_BYTES:
            yield from iter(lambda: file.read(PIECE_BYTES), b"")
            return
        for i in range(NUM_PIECES):
            file.seek(last * i // (NUM_PIECES - 1))
            yield file.read(PIECE_BYTES)
