"""`PictureQuestionModel`: what VL-JEPA and the token VLM have in common.

Legend: N rows, P tokens of a picture, S tokens of the longest question, D a part's width.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization

from llm_jepa.vision.picture_encoder import check_encodes_pictures, encode_pictures, freeze_unused_weights
from llm_jepa.vision.pictures import read_frames
from llm_jepa.vision.processor import PictureQuestionProcessor

INITIALIZER_RANGE = 0.02
PLACES = ("revision", "token", "cache_dir", "local_files_only")
"""Arguments of `from_pretrained` that say where files are; those beside the weights are read from there too."""


class PictureQuestionModel(PreTrainedModel):
    """Reads a picture's tokens, through a linear projector, and a question's after them.

    A subclass has a `vision_encoder`, a `projector`, a `processor_class` and embeddings of tokens, which stay as they
    are. So does a frozen encoder.
    """

    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    processor_class: type[PictureQuestionProcessor]
    vision_encoder: PreTrainedModel
    projector: nn.Linear
    _processor: Any = None
    _places: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model; transformers makes new parameters, which are frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model._places = {key: kwargs[key] for key in PLACES if key in kwargs}
        model.freeze_parts()
        return loaded

    def freeze_parts(self) -> None:
        """Take gradients from what the config says is not trained."""
        self.get_input_embeddings().requires_grad_(False)
        self.projector.requires_grad_(self.config.sees_images)
        for part in self.frozen_encoders():
            part.requires_grad_(False)
        self.train(self.training)

    def check_encoders(self, height: int, width: int) -> None:
        """Check that the encoders take what a row has.

        Raises:
            ValueError: The vision encoder does not take pictures of this size, or needs more than pictures.
        """
        check_encodes_pictures(self.vision_encoder, height, width)

    def freeze_unused_weights(self, height: int, width: int) -> None:
        """Freeze the weights of a trained vision encoder that no patch depends on."""
        if self.vision_encoder not in self.frozen_encoders():
            freeze_unused_weights(self.vision_encoder, height, width)

    def train(self, mode: bool = True) -> Any:
        """Set the mode of training; a frozen encoder stays in evaluation, without dropout or new statistics."""
        super().train(mode)
        for part in self.frozen_encoders():
            part.eval()
        return self

    def frozen_encoders(self) -> list[PreTrainedModel]:
        """The encoders that have no gradients."""
        is_trained = self.config.trains_vision_encoder and self.config.sees_images
        return [] if is_trained else [self.vision_encoder]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            initialization.normal_(module.weight, std=INITIALIZER_RANGE)
            initialization.zeros_(module.bias)

    def encode_pictures(self, pixels_NTCHW: Tensor) -> Tensor:
        """patches_NPD, without a graph where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trains_vision_encoder):
            return encode_pictures(self.vision_encoder, pixels_NTCHW.to(dtype_of(self.vision_encoder)))

    def embed_inputs(
        self,
        pixel_values: Tensor | None = None,
        patches: Tensor | None = None,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The tokens of pictures, then the question's: embeds_NSD, and mask_NS, which is 0 for padding.

        Args:
            patches: Of a cache, in the place of pixels. A blind model reads neither.
        """
        embeds, masks = [], []
        if self.config.sees_images:
            if patches is None:
                assert pixel_values is not None
                patches = self.encode_pictures(pixel_values)
            embeds.append(self.projector(patches.to(dtype_of(self.projector))))
            masks.append(torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device))
        if question_ids is not None:
            assert question_mask is not None
            embeds.append(self.get_input_embeddings()(question_ids))
            masks.append(question_mask)
        return torch.cat([embed.to(embeds[0].dtype) for embed in embeds], dim=1), torch.cat(masks, dim=1)

    # --- pictures and texts in

    @property
    def processor(self) -> Any:
        """What turns pictures and texts into tensors; read from beside the model when it is first asked for."""
        if self._processor is None:
            name, num_frames = str(self.name_or_path), self.config.num_frames
            self._processor = self.processor_class.from_pretrained(name, num_frames, **self._places)
        return self._processor

    @processor.setter
    def processor(self, processor: PictureQuestionProcessor) -> None:
        self._processor = processor

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model with all its parts, and its processor beside it.

        Weights keep the names that they have here. transformers would write those of a part's first release, which
        `Trainer` does not find when it resumes. A weight that is tied to another is written once; FSDP gathers both.
        """
        kwargs.setdefault("save_original_format", False)
        if kwargs.get("state_dict") is not None:
            tied = self.all_tied_weights_keys
            kwargs["state_dict"] = {name: one for name, one in kwargs["state_dict"].items() if name not in tied}
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            self.processor.save_pretrained(save_directory)

    def read_batches(
        self, images: Sequence[Any] | None, questions: Sequence[str] | None, batch_size: int
    ) -> Iterator[dict[str, Tensor]]:
        """The arguments of `forward` for so many rows at once.

        Args:
            images: A path, bytes, a PIL picture or a list of frames for each row; None for a blind model.
            questions: A text for each row; None to ask nothing, as of captions.

        Raises:
            ValueError: Neither is given or their numbers differ, the model is blind and gets images or sees and gets
                none, or a picture cannot be read.
        """
        self._check_inputs(images, questions)
        total = len(images if images is not None else questions or [])
        for start in range(0, total, batch_size):
            batch, inputs = slice(start, start + batch_size), {}
            if images is not None:
                frames = [read_frames(image, f"image {start + i}") for i, image in enumerate(images[batch])]
                inputs["pixel_values"] = self.processor.pixels(frames)
            if questions is not None:
                texts = self.processor.questions(questions[batch], self.config.max_question_tokens)
                inputs["question_ids"], inputs["question_mask"] = texts
            yield {name: value.to(self.device) for name, value in inputs.items()}

    def _check_inputs(self, images: Sequence[Any] | None, questions: Sequence[str] | None) -> None:
        if (images is not None) != self.config.sees_images:
            wants = "images" if self.config.sees_images else "no images: it was trained on questions alone"
            raise ValueError(f"The model takes {wants}. Give {'them' if images is None else '`images=None`'}.")
        if images is not None and questions is not None and len(images) != len(questions):
            raise ValueError(f"{len(images)} images and {len(questions)} questions; give one of each a row.")
        if not (questions if images is None else images):
            raise ValueError("There are no rows to predict. Give at least one.")


def dtype_of(module: nn.Module) -> torch.dtype:
    """That of its first parameter."""
    return next(module.parameters()).dtype
