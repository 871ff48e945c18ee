"""`TokenVLM`: an image and a question in, the tokens of the answer out; the control of VL-JEPA.

Legend: N rows, S tokens of picture and question, A tokens of the longest answer, V tokens of the vocabulary, D the
width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from llm_jepa.models.greedy import greedy_generation
from llm_jepa.vision.base_model import PictureQuestionModel
from llm_jepa.vision.model_config import TokenVLMConfig
from llm_jepa.vision.picture_encoder import load_picture_encoder, picture_tower, width_of_pictures
from llm_jepa.vision.predictor import PredictorWeights, load_language_model
from llm_jepa.vision.token_processor import TokenProcessor

BATCH_SIZE = 16


class TokenParts(NamedTuple):
    """The two pretrained parts of a model."""

    vision_encoder: PreTrainedModel
    language_model: PreTrainedModel


@dataclass
class TokenVLMOutput(ModelOutput):
    """The logits of an answer's tokens, each after all before it."""

    logits_NAV: Tensor | None = None


class TokenVLM(PictureQuestionModel):
    """Predicts an answer token by token.

        logits_t = head(norm(layers([projector(vision_encoder(image)), embed(question), embed(answer_<t)])))

    The layers are the last ones of a causal LM, or all, with their causal mask. Embeddings of tokens and the head stay
    as they are, so that the same layers are trained as those of VL-JEPA's predictor.

    Args:
        config: The parts.
        parts: Pretrained parts; None draws them at random by the config.
    """

    config_class = TokenVLMConfig
    processor_class = TokenProcessor

    def __init__(self, config: TokenVLMConfig, parts: TokenParts | None = None):
        super().__init__(config)
        if parts is None:
            parts = TokenParts(
                picture_tower(AutoModel.from_config(config.vision_config)),
                AutoModelForCausalLM.from_config(config.language_config),
            )
        self.vision_encoder, self.language_model = parts
        self.projector = nn.Linear(width_of_pictures(self.vision_encoder), config.language_config.hidden_size)
        self.post_init()
        self.freeze_parts()

    @classmethod
    def from_parts(
        cls,
        vision_encoder: str,
        language_model: str,
        predictor_layers: int,
        predictor_weights: PredictorWeights = "pretrained",
        **options: Any,
    ) -> "TokenVLM":
        """A model of two pretrained ones, each a directory or a Hub id; its projector is random.

        Args:
            predictor_layers: How many of the language model's last layers it has.
            predictor_weights: `random` draws those layers anew.
            options: Of `TokenVLMConfig`.

        Raises:
            ValueError: The language model has fewer layers.
        """
        parts = TokenParts(
            load_picture_encoder(vision_encoder),
            load_language_model(language_model, predictor_layers, predictor_weights),
        )
        vision_config, language_config = (part.config for part in parts)
        model = cls(TokenVLMConfig(vision_config, language_config, **options), parts)
        model.processor = TokenProcessor.from_parts(vision_encoder, language_model, model.config.num_frames)
        return model

    def freeze_parts(self) -> None:
        """Take gradients from what is not trained: the encoder, the embeddings of tokens and the head."""
        self.get_output_embeddings().requires_grad_(False)
        super().freeze_parts()

    @property
    def decoder_layers(self) -> Any:
        """The layers of the language model."""
        return self.language_model.base_model.layers

    def get_input_embeddings(self) -> Any:
        """The embeddings of tokens."""
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """The head; FSDP asks whether it is tied to the embeddings."""
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        patches: Tensor | None = None,
        question_ids: Tensor | None = None,
        question_mask: Tensor | None = None,
        answer_ids: Tensor | None = None,
        answer_mask: Tensor | None = None,
        **_: Any,
    ) -> TokenVLMOutput:
        """The logits of a batch's answers; `patches`, of a cache, stand in the place of `pixel_values`."""
        assert answer_ids is not None
        assert answer_mask is not None
        embeds_NSD, mask_NS = self.embed_inputs(pixel_values, patches, question_ids, question_mask)
        answer_NAD = self.get_input_embeddings()(answer_ids).to(embeds_NSD.dtype)
        mask_NT = torch.cat([mask_NS, answer_mask], dim=1)
        # The last token of picture and question predicts the answer's first one, and its last one nothing.
        output = self.language_model(
            inputs_embeds=torch.cat([embeds_NSD, answer_NAD], dim=1),
            attention_mask=mask_NT,
            position_ids=positions_of(mask_NT),
            logits_to_keep=answer_ids.shape[1] + 1,
            use_cache=False,
        )
        return TokenVLMOutput(output.logits[:, :-1])

    @torch.no_grad()
    def generate_answers(self, inputs: dict[str, Tensor], max_new_tokens: int) -> list[str]:
        """The greedy answer of each row.

        Args:
            inputs: Those of `forward`, without answers.
        """
        embeds_NSD, mask_NS = self.embed_inputs(**inputs)
        language_model: Any = self.language_model
        end_id = self.processor.end_id
        with greedy_generation(language_model, [end_id], end_id, max_new_tokens):
            ids_NA = language_model.generate(inputs_embeds=embeds_NSD, attention_mask=mask_NS)
        return [self.processor.decode(ids) for ids in ids_NA.tolist()]

    def answer(
        self, images: Sequence[Any] | None, questions: Sequence[str] | None = None, batch_size: int = BATCH_SIZE
    ) -> list[str]:
        """The greedy answer of each row. Arguments and errors are those of `read_batches`."""
        limit = self.config.max_answer_tokens
        batches = self.read_batches(images, questions, batch_size)
        return [text for inputs in batches for text in self.generate_answers(inputs, limit)]


def positions_of(mask_NS: Tensor) -> Tensor:
    """How many tokens stand before each: position_NS. Padding does not count.

    Example: the mask 1 1 0 1 1 has the positions 0 1 1 2 3.
    """
    return (mask_NS.cumsum(dim=1) - 1).clamp(min=0)
