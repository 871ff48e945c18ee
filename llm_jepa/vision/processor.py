"""Pictures to pixels, questions and answers to tokens: what all models do, and `VLJEPAProcessor`.

Legend: N rows, T frames, C channels, H and W pixels, S tokens of the longest row.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.utils import cached_file

from llm_jepa.models.decoder_files import ANSWER_FOLDER, QUESTION_FOLDER
from llm_jepa.vision.picture_encoder import VIDEO_ENCODERS
from llm_jepa.vision.timm_models import MODEL_TYPE as TIMM_MODEL_TYPE
from llm_jepa.vision.timm_models import timm_image_processor

Side = Literal["left", "right"]
VIDEO_PROCESSING_FILE = "video_preprocessor_config.json"
FRAME_SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip
"""What a video processor says of a frame."""


class PictureQuestionProcessor(ABC):
    """Turns pictures and questions into tensors; a subclass does so with answers.

    Args:
        image_processor: That of the vision encoder.
        question_tokenizer: That of the language model.
        num_frames: As many frames of a row are read.
    """

    question_padding: Side = "right"

    def __init__(
        self, image_processor: BaseImageProcessor, question_tokenizer: PreTrainedTokenizerBase, num_frames: int
    ):
        self.image_processor = image_processor
        self.question_tokenizer = with_padding(question_tokenizer)
        self.num_frames = num_frames

    @classmethod
    @abstractmethod
    def from_pretrained(cls, name_or_path: str, num_frames: int, **places: Any) -> "PictureQuestionProcessor":
        """The processor that was saved with a model; `places` may name a `revision`."""

    @abstractmethod
    def answer_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each answer, however many."""

    @abstractmethod
    def answers(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """ids_NS and is_token_NS. Errors are those of `refuse_longer`."""

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `preprocessor_config.json` and a folder for each tokenizer."""
        self.image_processor.save_pretrained(directory)
        self.question_tokenizer.save_pretrained(Path(directory) / QUESTION_FOLDER)

    def resize(self, side: int) -> None:
        """Give the encoder squares of so many pixels a side.

        Where the processing crops, it resizes in the same proportion to the crop as before. Example: 256 pixels and a
        crop of 224 become 512 and 448. That of ConvNeXt crops by a share of its own.
        """
        processor: Any = self.image_processor
        square = {"height": side, "width": side}
        if getattr(processor, "do_center_crop", False):
            scale = side / processor.crop_size["height"]
            lengths = {edge: length for edge, length in dict(processor.size).items() if length}
            processor.size = {edge: round(scale * length) for edge, length in lengths.items()}
            processor.crop_size = square
        else:
            processor.size = {"shortest_edge": side} if hasattr(processor, "crop_pct") else square

    def pixels(self, rows: Sequence[Sequence[Image.Image]]) -> Tensor:
        """Rows of RGB frames, resized and normalised as the encoder was trained: pixels_NTCHW."""
        chosen = [frames[i] for frames in rows for i in frame_indices(len(frames), self.num_frames)]
        pixels = self.image_processor(images=chosen, return_tensors="pt")["pixel_values"]
        return pixels.unflatten(0, (len(rows), self.num_frames))

    def pixel_shape(self, vision_config: PreTrainedConfig) -> tuple[int, int]:
        """Height and width of a frame's pixels; without resizing, those that the encoder was trained with."""
        side = getattr(vision_config, "image_size", None)
        side = side if isinstance(side, int) else 64
        height, width = self.pixels([[Image.new("RGB", (side, side))]]).shape[-2:]
        return height, width

    def question_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each question, however many."""
        return self.question_tokenizer([*texts])["input_ids"]

    def questions(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """ids_NS and is_token_NS. Errors are those of `refuse_longer`."""
        return tokens_of(self.question_tokenizer, texts, max_tokens, self.question_padding)


class VLJEPAProcessor(PictureQuestionProcessor):
    """What stands between a row and the tensors of a `VLJEPAModel`.

    Args:
        answer_tokenizer: That of the text encoder; the others are those of `PictureQuestionProcessor`.
    """

    def __init__(
        self,
        image_processor: BaseImageProcessor,
        question_tokenizer: PreTrainedTokenizerBase,
        answer_tokenizer: PreTrainedTokenizerBase,
        num_frames: int,
    ):
        super().__init__(image_processor, question_tokenizer, num_frames)
        self.answer_tokenizer = with_padding(answer_tokenizer)

    @classmethod
    def from_parts(
        cls, vision_encoder: str, language_model: str, text_encoder: str, num_frames: int
    ) -> "VLJEPAProcessor":
        """The processor of three models, each a directory or a Hub id."""
        question, answer = (AutoTokenizer.from_pretrained(name) for name in (language_model, text_encoder))
        return cls(load_image_processor(vision_encoder), question, answer, num_frames)

    @classmethod
    def from_pretrained(cls, name_or_path: str, num_frames: int, **places: Any) -> "VLJEPAProcessor":
        """The processor that was saved with a model; `places` may name a `revision`."""
        folders = (QUESTION_FOLDER, ANSWER_FOLDER)
        question, answer = (saved_tokenizer(name_or_path, folder, **places) for folder in folders)
        return cls(load_image_processor(name_or_path, **places), question, answer, num_frames)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `preprocessor_config.json` and a folder for each tokenizer."""
        super().save_pretrained(directory)
        self.answer_tokenizer.save_pretrained(Path(directory) / ANSWER_FOLDER)

    def answer_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each answer, without the white space around it, however many."""
        return self.answer_tokenizer([text.strip() for text in texts])["input_ids"]

    def answers(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """ids_NS and is_token_NS. Errors are those of `refuse_longer`."""
        return tokens_of(self.answer_tokenizer, [text.strip() for text in texts], max_tokens)


def frame_indices(num_given: int, num_frames: int) -> list[int]:
    """Which frames are read: evenly spaced, repeated where there are too few.

    Examples: 1 given and 4 read are 0 0 0 0; 8 and 4 are 0 2 4 6; 3 and 4 are 0 0 1 2.
    """
    return [i * num_given // num_frames for i in range(num_frames)]


def saved_tokenizer(name_or_path: str, folder: str, **places: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder beside a model, which has no configuration there for transformers to ask for."""
    return AutoTokenizer.from_pretrained(name_or_path, subfolder=folder, config=PreTrainedConfig(), **places)


def load_image_processor(name_or_path: str, **places: Any) -> BaseImageProcessor:
    """The image processor of an encoder, in Pillow, so that every machine computes the same pixels.

    That of V-JEPA 2 is a video processor, which resizes, crops and normalises each frame like an image. That of a
    model of timm stands in its configuration.
    """
    config = PreTrainedConfig.get_config_dict(name_or_path, **places)[0]
    if config.get("model_type") == TIMM_MODEL_TYPE and "pretrained_cfg" in config:
        return timm_image_processor(config["pretrained_cfg"])
    if config.get("model_type") not in VIDEO_ENCODERS:
        return AutoImageProcessor.from_pretrained(name_or_path, backend="pil", **places)
    path = cached_file(name_or_path, VIDEO_PROCESSING_FILE, **places)
    assert path is not None, "transformers raises where the file is missing"
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return BitImageProcessorPil(**{name: content[name] for name in FRAME_SETTINGS if name in content})


def with_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer with a token for padding, which is masked wherever it stands."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int, side: Side = "right"
) -> tuple[Tensor, Tensor]:
    """ids_NS and is_token_NS, padded on a side. Errors are those of `refuse_longer`."""
    batch = tokenizer([*texts], padding=True, padding_side=side, return_tensors="pt")
    ids_NS, is_token_NS = batch["input_ids"].long(), batch["attention_mask"].to(torch.long)
    refuse_longer(texts, is_token_NS.sum(dim=1).tolist(), max_tokens)
    return ids_NS, is_token_NS


def refuse_longer(texts: Sequence[str], lengths: Sequence[int], max_tokens: int) -> None:
    """Refuse texts that have more tokens than the model reads.

    Raises:
        ValueError: One has.
    """
    for text, length in zip(texts, lengths, strict=True):
        if length > max_tokens:
            raise ValueError(f"{text[:60]!r} has {length} tokens; the model reads {max_tokens} at most. Shorten it.")
