"""Features of a frozen vision encoder on disk, by the content of the pictures.

    DIR/cache.json          which encoder, processing and shape the features have
    DIR/3f/3f9c....npy      the features of a picture, or of a video's frames: patches_PD in float16

A picture that comes in many rows, or in another data set, is encoded once. Legend: N pictures, P tokens, D the width.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from llm_jepa.files.atomic import partial_path, write_json
from llm_jepa.runs.record import read_json
from llm_jepa.vision.picture_encoder import encode_pictures, picture_shape
from llm_jepa.vision.pictures import file_of, looked_in, picture_name, read_frames
from llm_jepa.vision.processor import PictureQuestionProcessor

FACTS_FILE = "cache.json"
FEATURE_BYTES = 2
BATCH_SIZE = 16
MEGABYTE = 10**6
ANOTHER = "Name another `feature_cache`, or delete this one"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheFacts:
    """What features belong to: digests of the encoder's weights and of the processing of pixels, frames, shape."""

    encoder: str
    processing: str
    num_frames: int
    num_tokens: int
    width: int


class FeatureCache:
    """The features in a directory. Of several processes one opens it first.

    Raises:
        ValueError: The directory holds features of another encoder or processing, or other files; or it is a file.
    """

    def __init__(self, directory: str | Path, encoder: PreTrainedModel, processor: PictureQuestionProcessor):
        self.directory = Path(directory).expanduser()
        self.facts = cache_facts(encoder, processor)
        path = self.directory / FACTS_FILE
        if path.is_file():
            there = read_json(path)
            other = [name for name, value in asdict(self.facts).items() if there.get(name) != value]
            if other:
                raise ValueError(
                    f"`feature_cache: {directory}` holds features of another {' and '.join(other)}. {ANOTHER}."
                )
        elif self.directory.is_file():
            raise ValueError(f"`feature_cache: {directory}` is a file. Name a directory.")
        elif self.directory.is_dir() and any(self.directory.iterdir()):
            raise ValueError(f"`feature_cache: {directory}` is not empty and holds no features. {ANOTHER}.")
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(asdict(self.facts), path)

    def path(self, key: str) -> Path:
        """The file of a picture's features."""
        return self.directory / key[:2] / f"{key}.npy"

    def load(self, keys: Sequence[str]) -> Tensor:
        """patches_NPD in float32."""
        return torch.from_numpy(np.stack([np.load(self.path(key)) for key in keys]).astype(np.float32))

    def store(self, key: str, patches_PD: Tensor) -> None:
        """Write the features of one picture, whole or not at all.

        Raises:
            ValueError: float16 cannot hold them.
        """
        features_PD = patches_PD.half().cpu().numpy()
        if not np.isfinite(features_PD).all():
            raise ValueError("The vision encoder gives features beyond float16. Train without `feature_cache`.")
        path = self.path(key)
        path.parent.mkdir(exist_ok=True)
        partial = partial_path(path).with_suffix(f".{os.getpid()}")
        with partial.open("wb") as file:
            np.save(file, features_PD)
        partial.replace(path)

    def fill(
        self,
        first_rows: Mapping[str, int],
        pictures: Sequence[Any],
        encoder: PreTrainedModel,
        processor: PictureQuestionProcessor,
        directory: Path | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Encode what is missing; the size of it is logged before.

        Args:
            first_rows: Key -> a row that has its picture.
            pictures: The picture or the frames of each row.
            directory: What relative paths of pictures are relative to.
            share: Which part of how many this process encodes.

        Raises:
            ValueError: The disk has too little room.
        """
        missing = [key for key in first_rows if not self.path(key).is_file()]
        num_bytes = len(missing) * self.facts.num_tokens * self.facts.width * FEATURE_BYTES
        if not missing:
            return
        free_bytes = shutil.disk_usage(self.directory).free
        logger.info(
            f"Features of {len(missing):,} pictures: {self.facts.num_tokens} x {self.facts.width} numbers each, "
            f"{num_bytes / MEGABYTE:,.1f} MB in {self.directory}."
        )
        if num_bytes > free_bytes:
            raise ValueError(
                f"`feature_cache: {self.directory}` needs {num_bytes / MEGABYTE:,.0f} MB, and the disk has "
                f"{free_bytes / MEGABYTE:,.0f} MB free. Name a directory on another disk, or train without it."
            )
        # By the place among all keys: another process may have begun, so that fewer are missing.
        place = {key: i for i, key in enumerate(first_rows)}
        own = [key for key in missing if place[key] % share[1] == share[0]]
        device = next(encoder.parameters()).device
        encoder.eval()
        for start in range(0, len(own), BATCH_SIZE):
            keys = own[start : start + BATCH_SIZE]
            pixels = processor.pixels([read_frames(pictures[first_rows[key]], "", directory) for key in keys])
            with torch.no_grad():
                patches_NPD = encode_pictures(encoder, pixels.to(device))
            for key, patches_PD in zip(keys, patches_NPD, strict=True):
                self.store(key, patches_PD)


def cache_facts(encoder: PreTrainedModel, processor: PictureQuestionProcessor) -> CacheFacts:
    """What features by this encoder and processor belong to."""
    weights = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        weights.update(name.encode())
        weights.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    processing = json.dumps(processor.image_processor.to_dict(), sort_keys=True, default=str)
    num_tokens, features = picture_shape(encoder, processor.num_frames, *processor.pixel_shape(encoder.config))
    digest = hashlib.sha256(processing.encode()).hexdigest()
    return CacheFacts(weights.hexdigest(), digest, processor.num_frames, num_tokens, features)


def with_cached_features(
    rows: Dataset,
    cache: FeatureCache,
    encoder: PreTrainedModel,
    processor: PictureQuestionProcessor,
    directory: Path | None = None,
    share: tuple[int, int] = (0, 1),
) -> Dataset:
    """Rows with `picture_key` in the place of `image`; their features are in the cache then, as far as `share` goes.

    Other arguments are those of `FeatureCache.fill`.
    """
    pictures = rows["image"]
    keys = [picture_key(picture, directory) for picture in pictures]
    first_rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        first_rows.setdefault(key, row)
    cache.fill(first_rows, pictures, encoder, processor, directory, share)
    return rows.remove_columns("image").add_column("picture_key", keys)


def picture_key(value: Any, directory: Path | None = None) -> str:
    """A digest of a picture's file, or of each frame's in their order.

    Raises:
        ValueError: There is no picture, or its file cannot be read.
    """
    digest = hashlib.sha256()
    for frame in value if isinstance(value, list) else [value]:
        digest.update(hashlib.sha256(_content(frame, directory)).digest())
    return digest.hexdigest()


def _content(value: Any, directory: Path | None) -> bytes:
    if isinstance(value, Image.Image):
        return f"{value.mode}{value.size}".encode() + value.tobytes()
    file = file_of(value, directory)
    if isinstance(file, bytes):
        return file
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{picture_name(value)} cannot be read{looked_in(directory)}: {error.strerror}.") from error
