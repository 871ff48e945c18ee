"""Training pictures, cropped and recoloured at random. They are never flipped: questions speak of left and right.

A draw depends on seed, epoch and row alone, so that workers and resumed runs draw what one whole run does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from transformers import TrainerCallback

MIN_AREA = 0.6
"""A crop keeps at least this share of the picture, since questions ask for what stands near its edges too."""
MAX_STRETCH = 4 / 3
"""A crop's ratio of width to height is that of the picture times 3/4 to 4/3."""
MAX_CHANGE = 0.4
"""Brightness, contrast and saturation are each multiplied by 0.6 to 1.4. Hues stay: questions ask for colours."""
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass
class CropAndColour:
    """Crops and recolours the frames of a row, all of them alike.

    Args:
        seed: Of the run.
    """

    seed: int
    epoch_1: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.long).share_memory_())
    """The epoch, in memory that workers share: they keep a copy of everything else."""

    def __call__(self, frames: Sequence[Image.Image], row: int) -> list[Image.Image]:
        """The frames of a row in the current epoch."""
        draws = np.random.default_rng([self.seed, int(self.epoch_1), row])
        area, stretch = draws.uniform(MIN_AREA, 1), MAX_STRETCH ** draws.uniform(-1, 1)
        left, top = draws.uniform(size=2)
        factors = draws.uniform(1 - MAX_CHANGE, 1 + MAX_CHANGE, size=len(ENHANCERS))
        return [
            recoloured(frame.crop(crop_box(frame.width, frame.height, area, stretch, left, top)), factors)
            for frame in frames
        ]


class EpochOfAugmentation(TrainerCallback):
    """Tells an augmentation which epoch begins."""

    def __init__(self, augmentation: CropAndColour):
        self.augmentation = augmentation

    def on_epoch_begin(self, args, state, control, **_):
        """Called before the workers of the epoch read."""
        self.augmentation.epoch_1.fill_(int(state.epoch))


def crop_box(
    width: int, height: int, area: float, stretch: float, left: float, top: float
) -> tuple[int, int, int, int]:
    """The corners of a crop in pixels: left, top, right, bottom.

    Args:
        area: Its share of the picture; less where the stretched crop would be wider or higher than the picture.
        stretch: Its ratio of width to height, over the picture's.
        left, top: Its place, 0 at the left or top edge, 1 at the other one.

    Example: of 100 x 60 pixels the area 0.64 without stretch is 80 x 48; at 0.5 and 1 it is (10, 12, 90, 60).
    """
    crop_width = max(1, min(width, round(width * (area * stretch) ** 0.5)))
    crop_height = max(1, min(height, round(height * (area / stretch) ** 0.5)))
    x, y = round(left * (width - crop_width)), round(top * (height - crop_height))
    return x, y, x + crop_width, y + crop_height


def recoloured(picture: Image.Image, factors: Sequence[float] | np.ndarray) -> Image.Image:
    """The picture with brightness, contrast and saturation times these factors."""
    for enhancer, factor in zip(ENHANCERS, factors, strict=True):
        picture = enhancer(picture).enhance(float(factor))
    return picture
