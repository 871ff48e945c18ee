"""`VLJEPAModel`: an image and a question in, the embedding of the answer out (VL-JEPA, arXiv 2512.10942).

Legend: N rows, P tokens of a picture, S tokens of the longest text, D a part's width, E the shared space's width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from llm_jepa.inference.answer_index import Hit
from llm_jepa.inference.ranking import nearest, num_equal, unit_rows
from llm_jepa.vision.base_model import PictureQuestionModel
from llm_jepa.vision.model_config import VLJEPAConfig
from llm_jepa.vision.picture_encoder import load_picture_encoder, picture_tower, width_of_pictures
from llm_jepa.vision.predictor import PredictorWeights, load_predictor
from llm_jepa.vision.processor import VLJEPAProcessor
from llm_jepa.vision.temperature import bounded_temperature
from llm_jepa.vision.text_decoder import MAX_NEW_TOKENS, TextDecoder
from llm_jepa.vision.text_encoder import (
    check_encodes_texts,
    encode_texts,
    load_text_encoder,
    masked_mean,
    without_pooler,
)

BATCH_SIZE = 16


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


class VLJEPAModel(PictureQuestionModel):
    """Predicts the embedding of an answer.

        prediction = W_p mean(predictor([projector(vision_encoder(image)), embed(question)]))
        target     = W_t pool(text_encoder(answer))

    The predictor attends from every position to every other one; the mean is over those that are no padding. A
    predictor of no layers is a linear probe: the mean is that of the tokens as they come.

    Args:
        config: The parts and how they are put together.
        parts: Pretrained parts; None draws them at random by the config.
    """

    config_class = VLJEPAConfig
    processor_class = VLJEPAProcessor

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
        self.projector = nn.Linear(width_of_pictures(self.vision_encoder), width)
        self.prediction_head = nn.Linear(width, config.embedding_size)
        self.target_head = nn.Linear(config.text_config.hidden_size, config.embedding_size)
        # One number in a vector: FSDP shards no scalar.
        self.log_temperature = nn.Parameter(torch.empty(1))
        self.restart_temperature()
        self._text_decoder: list[TextDecoder] = []  # in a list, so that it is no part of the model
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

    def freeze_parts(self) -> None:
        """Take gradients from what the config says is not trained: encoders, embeddings of tokens, temperature."""
        self.target_head.requires_grad_(self.config.trains_target_head)
        self.log_temperature.requires_grad_(self.config.trains_temperature)
        if self.is_linear_probe:
            self.predictor.requires_grad_(False)
        super().freeze_parts()

    def check_encoders(self, height: int, width: int) -> None:
        """Check that the encoders take what a row has.

        Raises:
            ValueError: As by the base class, or the text encoder needs more than tokens or has fewer positions than
                `max_answer_tokens`.
        """
        super().check_encoders(height, width)
        check_encodes_texts(self.text_encoder, self.config.max_answer_tokens)

    def restart_temperature(self) -> None:
        """Let the loss begin with the temperature that the config says."""
        nn.init.constant_(self.log_temperature, math.log(self.config.loss_temperature))

    def frozen_encoders(self) -> list[PreTrainedModel]:
        """The encoders that have no gradients."""
        return [*super().frozen_encoders(), *([] if self.config.trains_text_encoder else [self.text_encoder])]

    @property
    def is_linear_probe(self) -> bool:
        """Whether no layer stands between the tokens and their mean."""
        return self.config.predictor_config.num_hidden_layers == 0

    @property
    def decoder_layers(self) -> Any:
        """The layers of the predictor."""
        return self.predictor.layers

    def get_input_embeddings(self) -> Any:
        """The embeddings of the question's tokens."""
        return self.predictor.get_input_embeddings()

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
        prediction_NE = self.predict_embeddings(*self.embed_inputs(pixel_values, patches, question_ids, question_mask))
        target_NE = None
        if answer_ids is not None:
            assert answer_mask is not None
            target_NE = self.encode_answers(answer_ids, answer_mask)
        return VLJEPAOutput(prediction_NE, target_NE, bounded_temperature(self.log_temperature))

    def predict_embeddings(self, embeds_NSD: Tensor, mask_NS: Tensor) -> Tensor:
        """prediction_NE of embedded pictures and questions."""
        hidden_NSD = embeds_NSD
        if not self.is_linear_probe:
            output = self.predictor(inputs_embeds=embeds_NSD, attention_mask=mask_NS, use_cache=False)
            hidden_NSD = output.last_hidden_state
        return self.prediction_head(masked_mean(hidden_NSD, mask_NS))

    def encode_answers(self, answer_ids_NS: Tensor, answer_mask_NS: Tensor) -> Tensor:
        """target_NE, without a graph below the head where the encoder is frozen."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trains_text_encoder):
            text_ND = encode_texts(self.text_encoder, answer_ids_NS, answer_mask_NS, self.config.text_pooling)
        return self.target_head(text_ND)

    # --- pictures and texts in

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
        batches = self.read_batches(images, questions, batch_size)
        return torch.cat([self(**inputs).prediction_NE.float().cpu() for inputs in batches])

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

    def decode(self, prediction_NE: Tensor, max_new_tokens: int = MAX_NEW_TOKENS) -> list[str]:
        """The text of each prediction, greedily, by the text decoder of the run, which is loaded once.

        Raises:
            ValueError: The run has none, or it was trained on other weights.
        """
        if not self._text_decoder:
            decoder = TextDecoder.from_pretrained(str(self.name_or_path), **self._places)
            self._text_decoder.append(decoder.to(self.device))
        return self._text_decoder[0].write(prediction_NE, max_new_tokens)

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
