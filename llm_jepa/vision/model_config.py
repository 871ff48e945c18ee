"""`VLJEPAConfig`: the three parts of a VL-JEPA model, and how they are put together."""

import copy
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from llm_jepa.vision import efficientnet_lite  # noqa: F401 - registers the class
from llm_jepa.vision.text_encoder import Pooling

PARTS = ("vision_config", "predictor_config", "text_config")


class VLJEPAConfig(PreTrainedConfig):
    """The configuration of a `VLJEPAModel`.

    Args:
        vision_config: That of the image or video encoder.
        predictor_config: That of the language model whose last layers are the predictor, cut down to them.
        text_config: That of the encoder of answers.
        embedding_size: The width of the space that predictions and answers share.
        text_pooling: How the encoder's tokens become one vector.
        num_frames: The frames of a row.
        sees_images: False for the blind arm, which reads the question alone.
        max_question_tokens, max_answer_tokens: What the tokenizers cut at in answering, and refuse in training.
        trains_vision_encoder, trains_text_encoder, trains_target_head, trains_temperature: What has gradients beside
            the predictor's layers, the projector and the prediction's head.
        part_names: What the recipe called the parts: `vision_encoder`, `language_model` and `text_encoder`.
        loss_temperature: Of InfoNCE, at the start where it is trained.
    """

    model_type = "vl_jepa"
    sub_configs: ClassVar[dict[str, type]] = dict.fromkeys(PARTS, AutoConfig)

    def __init__(
        self,
        vision_config: PreTrainedConfig | dict[str, Any] | None = None,
        predictor_config: PreTrainedConfig | dict[str, Any] | None = None,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        embedding_size: int = 1536,
        text_pooling: Pooling = "mean",
        num_frames: int = 1,
        sees_images: bool = True,
        max_question_tokens: int = 512,
        max_answer_tokens: int = 512,
        trains_vision_encoder: bool = False,
        trains_text_encoder: bool = True,
        trains_target_head: bool = True,
        trains_temperature: bool = False,
        loss_temperature: float = 0.07,
        part_names: dict[str, str] | None = None,
        **kwargs: Any,
    ):
        parts = (vision_config, predictor_config, text_config)
        for name, part in zip(PARTS, parts, strict=True):
            # A copy: the model sets the attention of what it holds, and a part has chosen its own.
            setattr(self, name, AutoConfig.for_model(**part) if isinstance(part, dict) else copy.deepcopy(part))
        self.embedding_size = embedding_size
        self.text_pooling = text_pooling
        self.num_frames = num_frames
        self.sees_images = sees_images
        self.max_question_tokens = max_question_tokens
        self.max_answer_tokens = max_answer_tokens
        self.trains_vision_encoder = trains_vision_encoder
        self.trains_text_encoder = trains_text_encoder
        self.trains_target_head = trains_target_head
        self.trains_temperature = trains_temperature
        self.loss_temperature = loss_temperature
        self.part_names = part_names or {}
        super().__init__(**kwargs)
