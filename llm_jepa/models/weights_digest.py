"""A digest of a checkpoint's weights, to tell checkpoints apart. Imports no torch."""

import hashlib
from pathlib import Path

from llm_jepa.files.pieces import content_pieces
from llm_jepa.models.local_files import artifact_kind

MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Names that transformers gives to weights; `training_args.bin` and other files beside them have none."""
WEIGHTS = {
    "adapter": ("adapter_model.safetensors", "adapter_model.bin"),
    "model": MODEL_WEIGHTS,
    "vision": MODEL_WEIGHTS,
}


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
        for piece in content_pieces(path):
            digest.update(piece)
    return digest.hexdigest()
