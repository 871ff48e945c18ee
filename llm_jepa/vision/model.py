"""`VLJEPAModel`: an image and a question in, the embedding of the answer out (VL-JEPA, arXiv 2512.10942).

Legend: N rows, P tokens of a picture, S tokens of the longest text, D a part's width, E the shared space's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, initialization
from transformers.utils import ModelOutput

from llm_jepa.inference.answer_index import Hit
from llm_jepa.inference.ranking import nearest, num_equal, unit_rows
from llm_jepa.vision.model_config import VLJEPAConfig
from llm_jepa.vision.picture_encoder import encode_pictures, load_picture_encoder, picture_tower
from llm_jepa.vision.pictures import read_frames
from llm_jepa.vision.predictor import PredictorWeights, load_predictor
from llm_jepa.vision.processor import VLJEPAProcessor
from llm_jepa.vision.text_encoder import encode_texts, load_text_encoder, masked_mean, without_pooler

BATCH_SIZE = 16
INITIALIZER_RANGE = 0.02


class Parts(NamedTuple):
    """The three pretrained parts of a model."""

    vision_encoder: PreTrainedModel
    predictor: PreTrainedModel
    text_encoder: PreTrainedModel


@dataclass
class VLJEPAOutput(ModelOutput):
    """The embeddings of a batch, and the temperature of its loss."""

    prediction_NE: Tensor | None = None
    target_NE: Tensor | None = None
    temperature: Tensor | None = None


class VLJEPAModel(PreTrainedModel):
    """Predicts the embedding of an answer.

        prediction = W_p mean(predictor([projector(vision_encoder(image)), embed(question)]))
        target     = W_t pool(text_encoder(answer))

    The predictor attends from every position to every other one; the mean is over those that are no padding.

    Args:
        config: The parts and how they are put together.
        parts: Pretrained parts; None draws them at random by the config.
    """

    config_class = VLJEPAConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True

    def __init__(self, config: VLJEPAConfig, parts: Parts | None = None):
        super().__init__(config)
        if parts is None:
            parts = Parts(
                picture_tower(AutoModel.from_config(config.vision_config)),
                AutoModel.from_config(config.predictor_config),
                without_pooler(AutoModel.from_config(config.text_config)),
            )
        self.vision_encoder, self.predictor, self.text_encoder = parts
        width = config.predictor_config.hidden_size
        self.projector = nn.Linear(_width_of_pictures(config.vision_config), width)
        self.prediction_head = nn.Linear(width, config.embedding_size)
        self.target_head = nn.Linear(config.text_config.hidden_size, config.embedding_size)
        # One number in a vector: FSDP shards no scalar.
        self.log_temperature = nn.Parameter(torch.full((1,), config.loss_temperature).log())
        self._processor: VLJEPAProcessor | None = None
        self.post_init()
        self.freeze_parts()

    @classmethod
    def from_parts(
        cls,
        vision_encoder: str,
        language_model: str,
        text_encoder: str,
        predictor_layers: int,
        predictor_weights: PredictorWeights = "pretrained",
        **options: Any,
    ) -> "VLJEPAModel":
        """A model of three pretrained ones, each a directory or a Hub id; its projector and heads are random.

        Args:
            predictor_layers: How many of the language model's last layers are the predictor.
            predictor_weights: `random` draws those layers anew.
            options: Of `VLJEPAConfig`.

        Raises:
            ValueError: The language model has fewer layers, or keeps its causal mask.
        """
        parts = Parts(
            load_picture_encoder(vision_encoder),
            load_predictor(language_model, predictor_layers, predictor_weights),
            load_text_encoder(text_encoder),
        )
        vision_config, predictor_config, text_config = (part.config for part in parts)
        model = cls(VLJEPAConfig(vision_config, predictor_config, text_config, **options), parts)
        num_frames = model.config.num_frames
        model.processor = VLJEPAProcessor.from_parts(vision_encoder, language_model, text_encoder, num_frames)
        return model

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a saved model; transformers makes new parameters, which are frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_parts()
        return loaded

    def freeze_parts(self) -> None:
        """Take gradients from what the config says is not trained: encoders, embeddings of tokens, temperature."""
        config = self.config
        self.get_input_embeddings().requires_grad_(False)
        self.projector.requires_grad_(config.sees_images)
        self.target_head.requires_grad_(config.trains_target_head)
        self.log_temperature.requires_grad_(config.trains_temperature)
        for part in self._frozen_encoders():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "VLJEPAModel":
        """Set the mode of training; a frozen encoder stays in evaluation, without dropout or new statistics."""
        super().train(mode)
        for part in self._frozen_encoders():
            part.eval()
        return self

    def _frozen_encoders(self) -> list[PreTrainedModel]:
        config = self.config
        trained = (config.trains_vision_encoder and config.sees_images, config.trains_text_encoder)
        encoders = (self.vision_encoder, self.text_encoder)
        return [part for part, is_trained in zip(encoders, trained, strict=True) if not is_trained]

    def get_input_embeddings(self) -> Any:
        """The embeddings of the question's tokens."""
        return self.predictor.get_input_embeddings()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            initialization.normal_(module.weight, std=INITIALIZER_RANGE)
            initialization.zeros_(module.bias)

    # --- tensors in, tensors out

    def forward(
        self,
        pixel_values: Tensor | None = None,
        patches: Tensor | None = None,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        answer_ids: Tensor | None = None,
        answer_mask: Tensor | None = None,
        **_: Any,
    ) -> VLJEPAOutput:
        """Both embeddings of a batch; `patches`, of a cache, stand in the place of `pixel_values`."""
        if self.config.sees_images and patches is None:
            assert pixel_values is not None
            patches = self.encode_pictures(pixel_values)
        prediction_NE = self.predict_embeddings(patches, question_ids, question_mask)
        target_NE = None
        if answer_ids is not None:
            assert answer_mask is not None
            target_NE = self.encode_answers(answer_ids, answer_mask)
        return VLJEPAOutput(prediction_NE, target_NE, self.log_temperature.exp())

    def encode_pictures(self, pixels_NTCHW: Tensor) -> Tensor:
        """patches_NPD, without a graph where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trains_vision_encoder):
            return encode_pictures(self.vision_encoder, pixels_NTCHW.to(_dtype(self.vision_encoder)))

    def predict_embeddings(
        self, patches_NPD: Tensor | None, question_ids_NS: Tensor | None, question_mask_NS: Tensor | None
    ) -> Tensor:
        """prediction_NE of pictures, of questions, or of both: the picture's tokens stand before the question's."""
        embeds, masks = [], []
        if patches_NPD is not None:
            embeds.append(self.projector(patches_NPD.to(_dtype(self.projector))))
            masks.append(torch.ones(patches_NPD.shape[:2], dtype=torch.long, device=patches_NPD.device))
        if question_ids_NS is not None:
            assert question_mask_NS is not None
            embeds.append(self.get_input_embeddings()(question_ids_NS))
            masks.append(question_mask_NS)
        mask_NS = torch.cat(masks, dim=1)
        embeds_NSD = torch.cat([embed.to(embeds[0].dtype) for embed in embeds], dim=1)
        hidden_NSD = self.predictor(
            inputs_embeds=embeds_NSD, attention_mask=mask_NS, use_cache=False
        ).last_hidden_state
        return self.prediction_head(masked_mean(hidden_NSD, mask_NS))

    def encode_answers(self, answer_ids_NS: Tensor, answer_mask_NS: Tensor) -> Tensor:
        """target_NE, without a graph below the head where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trains_text_encoder):
            text_ND = encode_texts(self.text_encoder, answer_ids_NS, answer_mask_NS, self.config.text_pooling)
        return self.target_head(text_ND)

    # --- pictures and texts in

    @property
    def processor(self) -> VLJEPAProcessor:
        """What turns pictures and texts into tensors; read from beside the model when it is first asked for."""
        if self._processor is None:
            self._processor = VLJEPAProcessor.from_pretrained(str(self.name_or_path), self.config.num_frames)
        return self._processor

    @processor.setter
    def processor(self, processor: VLJEPAProcessor) -> None:
        self._processor = processor

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model with all its parts, and its processor beside it.

        Weights keep the names that they have here. transformers would write those of a part's first release, which
        `Trainer` does not find when it resumes.
        """
        kwargs.setdefault("save_original_format", False)
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            self.processor.save_pretrained(save_directory)

    @torch.no_grad()
    def predict(
        self, images: Sequence[Any] | None, questions: Sequence[str] | None = None, batch_size: int = BATCH_SIZE
    ) -> Tensor:
        """The embedding of each answer: prediction_NE, on the CPU.

        Args:
            images: A path, bytes, a PIL picture or a list of frames for each row; None for a blind model.
            questions: A text for each row; None to ask nothing, as of captions.

        Raises:
            ValueError: Neither is given or their numbers differ, the model is blind and gets images or sees and gets
                none, or a picture cannot be read.
        """
        self._check_inputs(images, questions)
        total = len(images if images is not None else questions or [])
        parts = []
        for start in range(0, total, batch_size):
            batch = slice(start, start + batch_size)
            patches_NPD: Tensor | None = None
            tokens: tuple[Tensor | None, Tensor | None] = None, None
            if images is not None:
                frames = [read_frames(image, f"image {start + i}") for i, image in enumerate(images[batch])]
                patches_NPD = self.encode_pictures(self.processor.pixels(frames).to(self.device))
            if questions is not None:
                texts = self.processor.questions(questions[batch], self.config.max_question_tokens)
                tokens = (texts[0].to(self.device), texts[1].to(self.device))
            parts.append(self.predict_embeddings(patches_NPD, *tokens).float().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Tensor:
        """The embeddings of answers: target_NE, on the CPU."""
        if not texts:
            raise ValueError("There are no texts to encode. Give at least one.")
        parts = []
        for start in range(0, len(texts), batch_size):
            ids, mask = self.processor.answers(texts[start : start + batch_size], self.config.max_answer_tokens)
            parts.append(self.encode_answers(ids.to(self.device), mask.to(self.device)).float().cpu())
        return torch.cat(parts)

    def rank(
        self, images: Sequence[Any] | None, questions: Sequence[str] | None, candidates: Sequence[Sequence[str]]
    ) -> list[list[Hit]]:
        """The candidates of each row by their cosine with the prediction, the nearest first.

        Args:
            candidates: A list for each row.
        """
        unit_NE = unit_rows(self.predict(images, questions).numpy())
        if len(candidates) != len(unit_NE):
            raise ValueError(f"{len(unit_NE)} rows and {len(candidates)} lists of candidates; give one a row.")
        texts = list(dict.fromkeys(text for row in candidates for text in row))
        unit_CE = unit_rows(self.encode_text(texts).numpy())
        place = {text: i for i, text in enumerate(texts)}
        ranked = []
        for unit_E, row in zip(unit_NE, candidates, strict=True):
            score_1K = (unit_CE[[place[text] for text in row]] @ unit_E)[None]
            found_1K = nearest(score_1K, len(row))
            equal_1K = num_equal(score_1K, found_1K)
            ranked.append(
                [Hit(row[i], float(score_1K[0, i]), int(n)) for i, n in zip(found_1K[0], equal_1K[0], strict=True)]
            )
        return ranked

    def _check_inputs(self, images: Sequence[Any] | None, questions: Sequence[str] | None) -> None:
        if (images is not None) != self.config.sees_images:
            wants = "images" if self.config.sees_images else "no images: it was trained on questions alone"
            raise ValueError(f"The model takes {wants}. Give {'them' if images is None else '`images=None`'}.")
        if images is not None and questions is not None and len(images) != len(questions):
            raise ValueError(f"{len(images)} images and {len(questions)} questions; give one of each a row.")
        if not (questions if images is None else images):
            raise ValueError("There are no rows to predict. Give at least one.")


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _width_of_pictures(config: Any) -> int:
    """The width of an encoder's tokens."""
    width = getattr(config, "hidden_size", None)
    if width is None:
        width = getattr(config, "hidden_sizes", [getattr(config, "num_features", None)])[-1]
    return width
