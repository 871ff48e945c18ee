"""The configurations of models that read pictures and questions: what all of them have, and `VLJEPAConfig`."""

import copy
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from llm_jepa.models.local_files import TOKEN_MODEL_TYPE, VISION_MODEL_TYPE
from llm_jepa.vision import efficientnet_lite  # noqa: F401 - registers the class
from llm_jepa.vision.text_encoder import Pooling

Part = PreTrainedConfig | dict[str, Any] | None


class PictureQuestionConfig(PreTrainedConfig):
    """What every model that reads pictures and questions has.

    Args:
        parts: The configuration of each part, by its name in `sub_configs`.
        num_frames: The frames of a row.
        sees_images: False for the blind arm, which reads the question alone.
        max_question_tokens, max_answer_tokens: What the tokenizers cut at in answering, and refuse in training.
        trains_vision_encoder: Whether the vision encoder has gradients.
        part_names: What the recipe called the parts: `vision_encoder`, `language_model` and perhaps `text_encoder`.
    """

    def __init__(
        self,
        parts: dict[str, Part] | None = None,
        num_frames: int = 1,
        sees_images: bool = True,
        max_question_tokens: int = 512,
        max_answer_tokens: int = 512,
        trains_vision_encoder: bool = False,
        part_names: dict[str, str] | None = None,
        **kwargs: Any,
    ):
        for name, part in (parts or {}).items():
            # A copy: the model sets the attention of what it holds, and a part has chosen its own.
            setattr(self, name, AutoConfig.for_model(**part) if isinstance(part, dict) else copy.deepcopy(part))
        self.num_frames = num_frames
        self.sees_images = sees_images
        self.max_question_tokens = max_question_tokens
        self.max_answer_tokens = max_answer_tokens
        self.trains_vision_encoder = trains_vision_encoder
        self.part_names = part_names or {}
        super().__init__(**kwargs)


class VLJEPAConfig(PictureQuestionConfig):
    """The configuration of a `VLJEPAModel`.

    Args:
        vision_config: That of the image or video encoder.
        predictor_config: That of the language model whose last layers are the predictor, cut down to them.
        text_config: That of the encoder of answers.
        embedding_size: The width of the space that predictions and answers share.
        text_pooling: How the encoder's tokens become one vector.
        trains_text_encoder, trains_target_head, trains_temperature: What has gradients beside the predictor's layers,
            the projector and the prediction's head.
        loss_temperature: Of InfoNCE, at the start where it is trained.
        kwargs: Of `PictureQuestionConfig`.
    """

    model_type = VISION_MODEL_TYPE
    sub_configs: ClassVar[dict[str, type]] = dict.fromkeys(
        ("vision_config", "predictor_config", "text_config"), AutoConfig
    )

    def __init__(
        self,
        vision_config: Part = None,
        predictor_config: Part = None,
        text_config: Part = None,
        embedding_size: int = 1536,
        text_pooling: Pooling = "mean",
        trains_text_encoder: bool = True,
        trains_target_head: bool = True,
        trains_temperature: bool = False,
        loss_temperature: float = 0.07,
        **kwargs: Any,
    ):
        self.embedding_size = embedding_size
        self.text_pooling = text_pooling
        self.trains_text_encoder = trains_text_encoder
        self.trains_target_head = trains_target_head
        self.trains_temperature = trains_temperature
        self.loss_temperature = loss_temperature
        parts = dict(zip(self.sub_configs, (vision_config, predictor_config, text_config), strict=True))
        super().__init__(parts, **kwargs)


class TokenVLMConfig(PictureQuestionConfig):
    """The configuration of a `TokenVLM`.

    Args:
        vision_config: That of the image or video encoder.
        language_config: That of the causal LM, cut down to its last layers.
        kwargs: Of `PictureQuestionConfig`.
    """

    model_type = TOKEN_MODEL_TYPE
    sub_configs: ClassVar[dict[str, type]] = dict.fromkeys(("vision_config", "language_config"), AutoConfig)

    def __init__(self, vision_config: Part = None, language_config: Part = None, **kwargs: Any):
        super().__init__({"vision_config": vision_config, "language_config": language_config}, **kwargs)
