"""Image and video encoders: any model of transformers that gives features of patches.

Legend: N rows, T frames, C channels, H and W pixels, P tokens of a row, D the encoder's width.
"""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from llm_jepa.vision import efficientnet_lite  # noqa: F401 - registers the class

VIDEO_ENCODERS = ("vjepa2",)
"""The model types that see all frames at once; the others see one frame at a time."""


def load_picture_encoder(name_or_path: str) -> PreTrainedModel:
    """The encoder with its weights in float32; of a model with a text tower, the tower of pictures."""
    return picture_tower(AutoModel.from_pretrained(name_or_path, dtype=torch.float32))


def picture_encoder_config(name_or_path: str) -> PreTrainedConfig:
    """The configuration that `load_picture_encoder` gives, read without the weights."""
    config = AutoConfig.from_pretrained(name_or_path)
    return getattr(config, "vision_config", config)


def picture_tower(model: PreTrainedModel) -> PreTrainedModel:
    """The part that encodes pictures: `vision_model` of CLIP, SigLIP and their like, else the whole model.

    V-JEPA 2 loses its own predictor, and a head that pools the tokens is dropped: neither gives features of patches.
    """
    tower = getattr(model, "vision_model", model)
    if tower.config.model_type in VIDEO_ENCODERS:
        del tower.predictor
    for name in ("head", "pooler"):
        if isinstance(getattr(tower, name, None), nn.Module):
            getattr(tower, name).requires_grad_(False)
    return tower


def encode_pictures(encoder: PreTrainedModel, pixels_NTCHW: Tensor) -> Tensor:
    """The tokens of all frames: patches_NPD.

    A video encoder reads the frames together. Another reads each, and P counts the tokens of all frames in their
    order. A grid of a convolutional encoder becomes its cells, row by row: 7 x 7 cells are 49 tokens. Tokens that
    belong to no patch, as [CLS], stay.
    """
    if encoder.config.model_type in VIDEO_ENCODERS:
        return encoder(pixel_values_videos=pixels_NTCHW, skip_predictor=True).last_hidden_state
    frames = encoder(pixel_values=pixels_NTCHW.flatten(0, 1)).last_hidden_state
    if frames.dim() == 4:  # (frames, width, rows, columns)
        frames = frames.flatten(2).transpose(1, 2)
    return frames.unflatten(0, pixels_NTCHW.shape[:2]).flatten(1, 2)


def picture_shape(encoder: PreTrainedModel, num_frames: int, height: int, width: int) -> tuple[int, int]:
    """P and D of a row, by a forward of one black row."""
    device = next(encoder.parameters()).device
    with torch.no_grad():
        patches_NPD = encode_pictures(encoder, torch.zeros(1, num_frames, 3, height, width, device=device))
    return patches_NPD.shape[1], patches_NPD.shape[2]
