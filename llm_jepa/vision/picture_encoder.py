"""Image and video encoders: any model of transformers that gives features of patches.

Legend: N rows, T frames, C channels, H and W pixels, P tokens of a row, D the encoder's width.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from llm_jepa.training.evaluation_mode import in_evaluation
from llm_jepa.vision import efficientnet_lite  # noqa: F401 - registers the class
from llm_jepa.vision.timm_models import MODEL_TYPE as TIMM_MODEL_TYPE
from llm_jepa.vision.timm_models import check_timm_is_installed

PERIOD = 10000
NAME_ANOTHER = "Name another `vision_encoder`, such as DINOv3, SigLIP 2 or V-JEPA 2."
VIDEO_ENCODERS = ("vjepa2",)
"""The model types that see all frames at once; the others see one frame at a time."""


def load_picture_encoder(name_or_path: str) -> PreTrainedModel:
    """The encoder with its weights in float32; of a model with a text tower, the tower of pictures.

    Raises:
        ValueError: It is of timm, which is not installed.
    """
    check_timm_is_installed(name_or_path)
    return picture_tower(AutoModel.from_pretrained(name_or_path, dtype=torch.float32))


def picture_encoder_config(name_or_path: str) -> PreTrainedConfig:
    """The configuration that `load_picture_encoder` gives, read without the weights.

    Raises:
        ValueError: It is of timm, which is not installed.
    """
    check_timm_is_installed(name_or_path)
    config = AutoConfig.from_pretrained(name_or_path)
    return getattr(config, "vision_config", config)


def picture_tower(model: PreTrainedModel) -> PreTrainedModel:
    """The part that encodes pictures: `vision_model` of CLIP, SigLIP and their like, else the whole model.

    V-JEPA 2 loses its own predictor, and a model of timm its pooling.
    """
    tower = getattr(model, "vision_model", model)
    if tower.config.model_type in VIDEO_ENCODERS:
        del tower.predictor
    if tower.config.model_type == TIMM_MODEL_TYPE:
        tower.config.do_pooling = False
    return tower


def freeze_unused_weights(encoder: PreTrainedModel, height: int, width: int) -> None:
    """Freeze the weights that no patch depends on, as those of a head that pools: DDP would wait for their gradients.

    A forward of a black row finds them. A mixture of experts may leave out some that other pictures need.
    """
    with in_evaluation(encoder), torch.enable_grad():
        patches_NPD = encode_pictures(encoder, black_row(encoder, num_frames_at_once(encoder), height, width))
    used = {id(weight) for weight in leaves_of_graph(patches_NPD)}
    for weight in encoder.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in used)


def leaves_of_graph(output: Tensor) -> Iterator[Tensor]:
    """The tensors to which a backward from an output would give gradients."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        nodes += [following for following, _ in node.next_functions]


def width_of_pictures(encoder: Any) -> int:
    """The width of an encoder's tokens.

    Raises:
        ValueError: Its configuration does not say it.
    """
    config = encoder.config
    if config.model_type == TIMM_MODEL_TYPE:
        return encoder.timm_model.num_features
    width = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if width is None:
        raise ValueError(
            f"The configuration of the vision encoder ({config.model_type}) has no `hidden_size` and no "
            f"`hidden_sizes`, so the width of its tokens is unknown. {NAME_ANOTHER}"
        )
    return width


def encode_pictures(encoder: PreTrainedModel, pixels_NTCHW: Tensor) -> Tensor:
    """The tokens of all frames: patches_NPD.

    A video encoder reads the frames together. Another reads each, and P counts the tokens of all frames in their
    order. A grid of a convolutional encoder, whose features do not know their place, gets `grid_positions` added and
    becomes its cells, row by row: 7 x 7 cells are 49 tokens. Its channels may come first, or last as those of timm's
    Swin. Tokens that belong to no patch, as [CLS], stay.
    """
    if encoder.config.model_type in VIDEO_ENCODERS:
        return encoder(pixel_values_videos=pixels_NTCHW, skip_predictor=True).last_hidden_state
    frames = encoder(pixel_values=pixels_NTCHW.flatten(0, 1)).last_hidden_state
    if frames.dim() == 4:
        if frames.shape[1] != width_of_pictures(encoder):
            frames = frames.permute(0, 3, 1, 2)
        _, width, num_rows, num_columns = frames.shape
        frames = frames.flatten(2).transpose(1, 2) + grid_positions(num_rows, num_columns, width).to(frames)
    return frames.unflatten(0, pixels_NTCHW.shape[:2]).flatten(1, 2)


def grid_positions(num_rows: int, num_columns: int, width: int) -> Tensor:
    """Where each cell of a grid is, as sines and cosines: positions_PD (DETR, arXiv 2005.12872, appendix A.4).

        angle_q(row) = 2 pi (row + 1) / num_rows / 10000^(q / Q),  Q = D // 4

    Q channels each for the sine and the cosine of the row's angles, then of the column's; what is left of D is 0.
    Example: of 4 rows the first has the angle pi / 2 for q = 0, so its sine is 1 and its cosine 0.
    """
    quarter = width // 4
    rate_Q = PERIOD ** (-torch.arange(quarter) / quarter)
    row_P, column_P = torch.arange(num_rows).repeat_interleave(num_columns), torch.arange(num_columns).repeat(num_rows)
    waves = []
    for place_P, number in ((row_P, num_rows), (column_P, num_columns)):
        angle_PQ = 2 * math.pi * (place_P[:, None] + 1) / number * rate_Q
        waves += [angle_PQ.sin(), angle_PQ.cos()]
    return F.pad(torch.cat(waves, dim=1), (0, width - 4 * quarter))


def picture_shape(encoder: PreTrainedModel, num_frames: int, height: int, width: int) -> tuple[int, int]:
    """P and D of a row, by a forward of one black row."""
    with in_evaluation(encoder), torch.no_grad():
        patches_NPD = encode_pictures(encoder, black_row(encoder, num_frames, height, width))
    return patches_NPD.shape[1], patches_NPD.shape[2]


def check_encodes_pictures(encoder: PreTrainedModel, height: int, width: int) -> None:
    """Check that an encoder takes pictures of a size and nothing else, by a forward of one black row.

    Raises:
        ValueError: It does not.
    """
    try:
        picture_shape(encoder, num_frames_at_once(encoder), height, width)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The vision encoder ({encoder.config.model_type}) takes no pictures of {height} x {width} pixels alone: "
            f"{reason}. Give another `image_size`, or leave it out. {NAME_ANOTHER}"
        ) from error


def refuse_random_patches(encoder: PreTrainedModel, height: int, width: int) -> None:
    """Check that an encoder gives the same tokens for the same picture in evaluation.

    Raises:
        ValueError: It does not, as ViT-MAE, which reads a random quarter of the patches.
    """
    black_NTCHW = black_row(encoder, num_frames_at_once(encoder), height, width)
    noise_NTCHW = torch.rand(black_NTCHW.shape, generator=torch.Generator().manual_seed(0)).to(black_NTCHW)
    with in_evaluation(encoder), torch.no_grad():
        first_NPD, second_NPD = (encode_pictures(encoder, noise_NTCHW) for _ in range(2))
    if not torch.allclose(first_NPD, second_NPD, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"The vision encoder ({encoder.config.model_type}) gives other tokens for the same picture each time, as "
            f"ViT-MAE, which reads a random part of it. {NAME_ANOTHER}"
        )


def check_num_frames(encoder: PreTrainedModel, num_frames: int) -> None:
    """Check that an encoder reads all frames of a row: V-JEPA 2 takes them by pairs, or one alone, which it repeats.

    Raises:
        ValueError: It would leave out some.
    """
    at_once = num_frames_at_once(encoder)
    if num_frames > 1 and num_frames % at_once:
        raise ValueError(
            f"`num_frames` is {num_frames}; this vision encoder reads {at_once} at once. Give 1, or a multiple of "
            f"{at_once}."
        )


def black_row(encoder: PreTrainedModel, num_frames: int, height: int, width: int) -> Tensor:
    """pixels_NTCHW of one row, all 0."""
    weight = next(encoder.parameters())
    return torch.zeros(1, num_frames, 3, height, width, device=weight.device, dtype=weight.dtype)


def num_frames_at_once(encoder: PreTrainedModel) -> int:
    """The fewest frames that an encoder reads: those of one tube of V-JEPA 2, else 1."""
    return getattr(encoder.config, "tubelet_size", 1)
