"""Rows of a micro-batch -> tensors: pixels or cached features, tokens of questions and answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from llm_jepa.options.vision import VisionOptions
from llm_jepa.vision.augmentation import CropAndColour
from llm_jepa.vision.feature_cache import FeatureCache
from llm_jepa.vision.pictures import read_frames
from llm_jepa.vision.processor import PictureQuestionProcessor
from llm_jepa.vision.rows import answer_key


@dataclass
class VisionCollator:
    """Collates rows that `prepare_rows` has made.

    Args:
        cache: Features in the place of pixels; None to read pictures.
        directory: What relative paths of pictures are relative to.
        augmentation: Of training; None to leave pictures as they are.
    """

    processor: PictureQuestionProcessor
    options: VisionOptions
    cache: FeatureCache | None = None
    directory: Path | None = None
    augmentation: CropAndColour | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The arguments of the model's `forward`, with `answer_key` and `row_index`."""
        batch = {
            "row_index": torch.tensor([row["row_index"] for row in rows]),
            "answer_key": torch.tensor([answer_key(row["answer"]) for row in rows]),
        }
        if self.cache is not None:
            batch["patches"] = self.cache.load([row["picture_key"] for row in rows])
        elif "image" in rows[0]:
            frames = [self._frames(row) for row in rows]
            batch["pixel_values"] = self.processor.pixels(frames)
        if "question" in rows[0]:
            texts = self.processor.questions([row["question"] for row in rows], self.options.max_question_tokens)
            batch["question_ids"], batch["question_mask"] = texts
        answers = self.processor.answers([row["answer"] for row in rows], self.options.max_answer_tokens)
        batch["answer_ids"], batch["answer_mask"] = answers
        return batch

    def _frames(self, row: dict[str, Any]) -> list[Image.Image]:
        frames = read_frames(row["image"], f"row {row['row_index']}", self.directory)
        return frames if self.augmentation is None else self.augmentation(frames, row["row_index"])
