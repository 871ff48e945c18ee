"""Plans a recipe of VL-JEPA: parameters of each part, tokens, FLOPs, memory of a device for its frames, hours.

The model is built from configurations alone, and computes one micro-batch without data (`FakeTensorMode`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoConfig

from llm_jepa.compute.devices import GPU
from llm_jepa.planning.dry_training import DryTraining, materialise
from llm_jepa.planning.estimate import Estimate, hours_at_peak
from llm_jepa.planning.live_bytes import storage_bytes
from llm_jepa.planning.memory import Launch, Weights
from llm_jepa.planning.plan import FITS, check_devices, usable_bytes
from llm_jepa.training.schedule import planned_steps, rows_per_step
from llm_jepa.vision.building import load_processor, load_rows, model_options, part_locations
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.model_config import TokenVLMConfig, VLJEPAConfig
from llm_jepa.vision.picture_encoder import (
    check_num_frames,
    encode_pictures,
    picture_encoder_config,
)
from llm_jepa.vision.predictor import language_config, predictor_config
from llm_jepa.vision.processor import PictureQuestionProcessor
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.rows import Tokenise
from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_model import TokenVLM

SAMPLE_ROWS = 1000
"""As many rows' texts are tokenised."""


@dataclass(frozen=True)
class PartPlan:
    """The parameters of a part, and how many of them are trained."""

    parameters: int
    trained: int


@dataclass(frozen=True)
class VisionPlan:
    """The cost of a recipe.

    Attributes:
        parts: Name -> its parameters.
        visual_tokens: Of a row, of all frames together.
        question_tokens, answer_tokens: The mean of a row, and the most of any, in the sample.
        flops_per_step: Of all devices, with texts of the mean length.
        memory: Kind -> bytes on one device at its peak, with texts of the greatest length.
        verdict: Whether it fits on the GPU; None without one.
        hours: None without a GPU.
    """

    rows: int
    steps: int
    parts: dict[str, PartPlan]
    visual_tokens: int
    question_tokens: tuple[float, int]
    answer_tokens: tuple[float, int]
    flops_per_step: float
    memory: dict[str, float]
    verdict: str | None
    hours: Estimate | None


def make_vision_plan(
    recipe: VisionRecipe, gpu: GPU | None = None, num_devices: int = 1, launch: Launch = "single"
) -> VisionPlan:
    """Plan a recipe of VL-JEPA.

    Raises:
        ValueError: A configuration or the data cannot be loaded, the memory of the optimizer is unknown, there are
            more devices than rows, or the recipe uses bf16 and the GPU does not support it.
    """
    args = recipe.training
    rows = load_rows(recipe, args.dataset_train_split)
    check_devices(args.bf16, len(rows), gpu, num_devices)
    batch = draw_batch(args, rows)
    dry = batch.model
    steps, step_rows = planned_steps(len(rows), args, num_devices), rows_per_step(len(rows), args, num_devices)
    flops_per_step = batch.flops_per_row() * step_rows
    memory = dry.memory(batch.longest(), launch, num_devices)
    verdict, hours = None, None
    if gpu is not None:
        verdict = FITS if sum(memory.values()) <= usable_bytes(gpu) else "does not fit"
        peak = gpu.peak_flops_per_second(dry.half is not None, bool(args.tf32))
        hours = hours_at_peak(flops_per_step * steps / num_devices, peak)
    return VisionPlan(
        rows=len(rows),
        steps=steps,
        parts=dry.parts(),
        visual_tokens=dry.visual_tokens(batch.pixels_NTCHW),
        question_tokens=batch.question_tokens,
        answer_tokens=batch.answer_tokens,
        flops_per_step=flops_per_step,
        memory=memory,
        verdict=verdict,
        hours=hours,
    )


@dataclass(frozen=True)
class DryBatch:
    """A recipe's model, and the shapes of its micro-batches.

    Attributes:
        pixels_NTCHW: Of one row.
        question_tokens, answer_tokens: The mean of a row, and the most of any, in the sample.
    """

    model: "DryVisionModel"
    pixels_NTCHW: Tensor
    question_tokens: tuple[float, int]
    answer_tokens: tuple[float, int]

    def flops_per_row(self) -> float:
        """FLOPs of a row with texts of the mean length."""
        size = self.model.args.per_device_train_batch_size
        usual = round(self.question_tokens[0]), round(self.answer_tokens[0])
        return self.model.flops(self.model.inputs(size, self.pixels_NTCHW, *usual)) / size

    def longest(self) -> dict[str, Any]:
        """A micro-batch with texts of the greatest length."""
        size = self.model.args.per_device_train_batch_size
        return self.model.inputs(size, self.pixels_NTCHW, self.question_tokens[1], self.answer_tokens[1])


def draw_batch(args: VisionConfig, rows: Dataset) -> DryBatch:
    """A micro-batch of a recipe's rows by the lengths of their texts."""
    processor = load_processor(args)
    questions, answers = _lengths(rows, args, processor)
    model = DryVisionModel(args)
    height, width = processor.pixel_shape(model.model.vision_encoder.config)
    model.prepare_encoder(height, width)
    return DryBatch(model, torch.zeros(1, args.num_frames, 3, height, width), questions, answers)


class DryVisionModel(DryTraining):
    """A recipe's model in training mode, without data."""

    args: VisionConfig
    model: VLJEPAModel | TokenVLM

    def __init__(self, args: VisionConfig):
        super().__init__(args)
        with torch.device("meta"):
            self.model = _new_model(args, *part_locations(args))
        with self.mode:
            materialise(self.model)
        if args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs or {"use_reentrant": False})
        self.model.train()

    def prepare_encoder(self, height: int, width: int) -> None:
        """Check the pictures and freeze unused weights, as training does."""
        check_num_frames(self.model.vision_encoder, self.args.num_frames)
        with self.mode:
            self.model.check_encoders(height, width)
            self.model.freeze_unused_weights(height, width)

    def parts(self) -> dict[str, PartPlan]:
        """Parameters by part; the embeddings of tokens apart from the predictor's layers."""
        groups: dict[str, list[Tensor]] = {}
        embeddings = {id(parameter) for parameter in self.model.get_input_embeddings().parameters()}
        for name, parameter in self.model.named_parameters():
            part = "token_embeddings" if id(parameter) in embeddings else name.partition(".")[0]
            groups.setdefault(part, []).append(parameter)
        return {
            name: PartPlan(sum(one.numel() for one in group), sum(one.numel() for one in group if one.requires_grad))
            for name, group in groups.items()
        }

    def weights(self) -> Weights:
        """Bytes of the model's weights."""
        embedding_bytes = storage_bytes(self.model.get_input_embeddings().parameters())
        layer_bytes = [storage_bytes(layer.parameters()) for layer in self.model.decoder_layers]
        return self._weights(max([embedding_bytes, *layer_bytes]))

    def inputs(self, batch: int, pixels_NTCHW: Tensor, question_tokens: int, answer_tokens: int) -> dict[str, Any]:
        """A micro-batch of such shapes; features in the place of pixels if the recipe caches them."""
        found: dict[str, Any] = {}
        visual_tokens = self.visual_tokens(pixels_NTCHW)
        with self.mode:
            if self.args.feature_cache is not None:
                found["patches"] = torch.empty(batch, visual_tokens, self.model.projector.in_features)
            elif visual_tokens:
                found["pixel_values"] = torch.empty(batch, *pixels_NTCHW.shape[1:])
            for role, length in (("question", question_tokens), ("answer", answer_tokens)):
                if length:
                    found[f"{role}_ids"] = torch.zeros(batch, length, dtype=torch.long)
                    found[f"{role}_mask"] = torch.ones(batch, length, dtype=torch.long)
        return found

    def visual_tokens(self, pixels_NTCHW: Tensor) -> int:
        """Of one row; 0 if images are not read."""
        if not self.args.sees_images:
            return 0
        with self.mode, torch.no_grad():
            pixels = self.mode.from_tensor(pixels_NTCHW)
            return encode_pictures(self.model.vision_encoder, pixels).shape[1]

    def _loss(self, inputs: dict[str, Any]) -> Tensor:
        with torch.autocast("cpu", dtype=self.half, enabled=self.half is not None):
            outputs = self.model(**inputs)
        if self.args.answer_form == "tokens":
            return answer_loss(outputs.logits_NAV, inputs["answer_ids"], inputs["answer_mask"])[0].sum()
        return outputs.prediction_NE.float().sum() + outputs.target_NE.float().sum()


def _new_model(
    args: VisionConfig, vision_encoder: str, language_model: str, text_encoder: str = ""
) -> VLJEPAModel | TokenVLM:
    """The model of a recipe, by the configurations of its parts."""
    vision_config, whole = picture_encoder_config(vision_encoder), AutoConfig.from_pretrained(language_model)
    options = model_options(args)
    if args.answer_form == "tokens":
        return TokenVLM(TokenVLMConfig(vision_config, language_config(whole, args.predictor_layers), **options))
    text_config = AutoConfig.from_pretrained(text_encoder)
    return VLJEPAModel(
        VLJEPAConfig(vision_config, predictor_config(whole, args.predictor_layers), text_config, **options)
    )


def _lengths(
    rows: Dataset, args: VisionConfig, processor: PictureQuestionProcessor
) -> tuple[tuple[float, int], tuple[float, int]]:
    """Mean and greatest number of tokens of questions and of answers, in the first rows."""
    sample = rows.select(range(min(SAMPLE_ROWS, len(rows))))

    def lengths(column: str | None, tokenise: Tokenise) -> tuple[float, int]:
        if column is None:
            return 0.0, 0
        found = [len(ids) for ids in tokenise(sample[column])]
        return sum(found) / len(found), max(found)

    questions = lengths(args.question_column, processor.question_ids)
    return questions, lengths(args.answer_column, processor.answer_ids)
