"""Tiny random encoders and language models of the classes that the recipes name, saved as directories."""

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    Dinov2Config,
    DINOv3ViTConfig,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
    ResNetConfig,
    SiglipConfig,
    VJEPA2Config,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.processor import VIDEO_PROCESSING_FILE, VLJEPAProcessor
from llm_jepa.vision.token_model import TokenVLM
from tests.tiny import tiny_tokenizer

SIDE = 16
"""Height and width of a picture in pixels."""
MEAN = STD = [0.5, 0.5, 0.5]
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ViT = {**TRANSFORMER, "image_size": SIDE, "patch_size": 8}
TEXT = {"vocab_size": 320, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}

VISION = {
    "vjepa2": VJEPA2Config(
        **TRANSFORMER, patch_size=8, crop_size=SIDE, frames_per_clip=4, num_pooler_layers=1, pred_hidden_size=12,
        pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=1,
    ),
    "dinov2": Dinov2Config(**ViT),
    "dinov3": DINOv3ViTConfig(**ViT, intermediate_size=32, num_register_tokens=2),
    "siglip": SiglipConfig(
        vision_config={**ViT, "intermediate_size": 32},
        text_config={**TRANSFORMER, "intermediate_size": 32, "vocab_size": 50},
    ),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}  # fmt: skip
LANGUAGE = {
    "llama": LlamaConfig(
        **TEXT, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, tie_word_embeddings=True,
    ),
    "qwen3": Qwen3Config(
        **TEXT, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.2,
    ),
}  # fmt: skip
SENTENCE = {
    "bert": BertConfig(**TRANSFORMER, intermediate_size=32, vocab_size=320, pad_token_id=2, initializer_range=0.2),
    "gemma3": Gemma3TextConfig(
        **TEXT, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.2, use_bidirectional_attention=True,
    ),
}  # fmt: skip


PLACE = tempfile.TemporaryDirectory(prefix="tiny-parts-")
"""Where they are saved, until this process ends."""


@functools.cache
def saved(name: str) -> str:
    """The directory of a tiny model with its tokenizer or image processor, made once for all tests."""
    directory = Path(PLACE.name) / name
    directory.mkdir()
    torch.manual_seed(0)
    if name in VISION:
        AutoModel.from_config(VISION[name]).save_pretrained(directory)
        _save_image_processor(name, directory)
    else:
        kind = AutoModelForCausalLM if name in LANGUAGE else AutoModel
        kind.from_config((LANGUAGE | SENTENCE)[name]).save_pretrained(directory)
        tiny_tokenizer().save_pretrained(directory)
    return str(directory)


def _save_image_processor(name: str, directory: Path) -> None:
    size = {"height": SIDE, "width": SIDE}
    BitImageProcessorPil(size=size, do_center_crop=False, image_mean=MEAN, image_std=STD).save_pretrained(directory)
    if name == "vjepa2":
        path = directory / "preprocessor_config.json"
        content = json.loads(path.read_text()) | {"video_processor_type": "VJEPA2VideoProcessor"}
        del content["image_processor_type"]
        (directory / VIDEO_PROCESSING_FILE).write_text(json.dumps(content))
        path.unlink()


def picture(colour: tuple[int, int, int] | str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def config_of(name: str) -> PreTrainedConfig:
    """The configuration of a tiny model."""
    return (VISION | LANGUAGE | SENTENCE)[name]


def tiny_model(
    vision: str = "dinov2",
    language: str = "llama",
    text: str = "bert",
    layers: int = 2,
    directories: Mapping[str, str] | None = None,
    **options: Any,
) -> VLJEPAModel:
    """A model of tiny parts without dropout, its own layers drawn by the same seed, in evaluation.

    Args:
        directories: Where the parts lie, for a process that does not save them again.
    """
    parts = [(directories or {}).get(name) or saved(name) for name in (vision, language, text)]
    torch.manual_seed(0)
    options = {"embedding_size": 12} | options
    model = VLJEPAModel.from_parts(*parts, layers, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def tiny_token_vlm(vision: str = "dinov2", language: str = "llama", layers: int = 2, **options: Any) -> TokenVLM:
    """A token VLM of tiny parts, its projector drawn by the same seed, in evaluation."""
    parts = saved(vision), saved(language)  # made by a seed of their own
    torch.manual_seed(0)
    return TokenVLM.from_parts(*parts, layers, **options).eval()


def tiny_processor(vision: str = "dinov2", num_frames: int = 1) -> VLJEPAProcessor:
    """The processor of tiny parts."""
    return VLJEPAProcessor.from_parts(saved(vision), saved("llama"), saved("bert"), num_frames)


COLOURS = {"red": "red", "green": "#00ff00", "blue": "blue", "white": "white", "black": "black", "sun": "yellow"}


def colour_rows(directory: Path, copies: int = 2) -> list[dict[str, str]]:
    """Rows that ask for the colour of a picture; the pictures are files, and come again with every copy."""
    for name, colour in COLOURS.items():
        picture(colour).save(directory / f"{name}.png")
    questions = ("what colour is it?", "which one?")
    return [
        {"image": str(directory / f"{name}.png"), "question": questions[copy % 2], "answer": name}
        for copy in range(copies)
        for name in COLOURS
    ]
