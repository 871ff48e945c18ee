"""Encoders of timm, which transformers loads as `timm_wrapper`: their processing of pictures."""

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image
from transformers import PreTrainedConfig
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

MODEL_TYPE = "timm_wrapper"
DEFAULT_CROP = 0.875
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
CROP_MODES = ("center", "squash")


def check_timm_is_installed(name_or_path: str) -> None:
    """Check that a model of timm can be loaded; any other passes.

    Raises:
        ValueError: timm is not installed.
    """
    config = PreTrainedConfig.get_config_dict(name_or_path)[0]
    if config.get("model_type") == MODEL_TYPE and importlib.util.find_spec("timm") is None:
        raise ValueError(
            f"`{name_or_path}` is a model of timm, which is not installed: `pip install 'llm-jepa[timm]'`."
        )


def timm_image_processor(processing: Mapping[str, Any]) -> BitImageProcessorPil:
    """The processing by which timm evaluates a model: resized, cropped in the middle, normalised.

    The shorter side becomes `input_size / crop_pct`, rounded down; with `crop_mode: squash` both sides do. Example:
    224 pixels and 0.875 make 256.

    Args:
        processing: `pretrained_cfg` of the model.

    Raises:
        ValueError: It crops or resizes otherwise, or is not of squares in RGB.
    """
    channels, side, width = processing["input_size"]
    mode, interpolation = processing.get("crop_mode") or "center", processing.get("interpolation") or "bicubic"
    if channels != 3 or side != width or mode not in CROP_MODES or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"The timm model reads {channels} x {side} x {width} with `crop_mode: {mode}` and `interpolation: "
            f"{interpolation}`; possible are 3 channels of squares, {' or '.join(CROP_MODES)}, "
            f"{' or '.join(INTERPOLATIONS)}. Name another model."
        )
    resized = math.floor(side / (processing.get("crop_pct") or DEFAULT_CROP))
    return BitImageProcessorPil(
        size={"height": resized, "width": resized} if mode == "squash" else {"shortest_edge": resized},
        resample=INTERPOLATIONS[interpolation],
        crop_size={"height": side, "width": side},
        image_mean=[*processing["mean"]],
        image_std=[*processing["std"]],
    )
