"""What a VL-JEPA recipe says beside transformers' `TrainingArguments`."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class VisionModelOptions:
    """The parts of the model and how they are put together."""

    vision_encoder: str | None = field(
        default=None,
        metadata={
            "help": "Image or video encoder, a directory or a Hub id: any model that gives features of patches, such "
            "as V-JEPA 2, DINOv2, DINOv3, SigLIP or one of timm. A recipe with this key trains VL-JEPA."
        },
    )
    language_model: str | None = field(
        default=None,
        metadata={"help": "Causal LM whose last layers, tokenizer and embeddings of tokens the predictor takes."},
    )
    text_encoder: str | None = field(
        default=None, metadata={"help": "Sentence encoder of the answers, the target of the prediction."}
    )
    answer_form: Literal["embedding", "tokens"] = field(
        default="embedding",
        metadata={
            "help": "What is predicted of an answer. `tokens` is a control, a VLM: the same encoder and projector, "
            "the same layers with their causal mask, and the head of the language model, trained by next-token loss "
            "on the answer alone. It reads no option of embeddings, `text_encoder` among them."
        },
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A trained VL-JEPA model to go on from, such as the run on captions; it must have the parts that "
            "the recipe names. Without it the three parts are joined by new layers."
        },
    )
    predictor_layers: int = field(
        default=8,
        metadata={
            "help": "How many of the language model's last layers are the predictor. 0 is a control, a linear probe: "
            "the mean of the picture's tokens and the question's embeddings goes straight to the head."
        },
    )
    predictor_weights: Literal["pretrained", "random"] = field(
        default="pretrained",
        metadata={"help": "Whether those layers keep their weights. The embeddings of tokens do in any case."},
    )
    text_pooling: Literal["mean", "cls"] = field(
        default="mean", metadata={"help": "How the text encoder's last states become one vector."}
    )
    embedding_size: int = field(
        default=1536, metadata={"help": "Width of the space that predictions and answers share."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Height and width in pixels of what the vision encoder gets; null leaves those of its own "
            "processing. Fewer pixels are fewer tokens; encoders with fixed positions take their own size alone."
        },
    )
    num_frames: int = field(
        default=1,
        metadata={
            "help": "Frames read of a row: evenly spaced of a video, and a still repeated. V-JEPA 2 sees them "
            "together, other encoders one by one."
        },
    )
    max_question_tokens: int = field(
        default=512, metadata={"help": "A question with more tokens is refused before training."}
    )
    max_answer_tokens: int = field(
        default=512, metadata={"help": "An answer with more tokens is refused before training."}
    )


@dataclass
class VisionDataOptions:
    """The data, and where image, question and answer are in them."""

    dataset_name: str | None = field(default=None, metadata={"help": "A Hub id, a local file or a directory."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a data set on the Hub."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str = field(default="test", metadata={"help": "Split to evaluate on."})
    image_column: str = field(
        default="image",
        metadata={
            "help": "Column of images: paths, bytes, pictures of `datasets`, or lists of these, the frames of a video."
        },
    )
    question_column: str | None = field(
        default="question",
        metadata={"help": "Column of questions; null asks nothing, as in the first stage, on captions."},
    )
    answer_column: str = field(default="answer", metadata={"help": "Column of answers or captions."})
    candidates_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with a list of answers that `llm-jepa eval` chooses from; without it, from all answers of "
            "the split."
        },
    )
    inputs: Literal["image_and_question", "question"] = field(
        default="image_and_question",
        metadata={
            "help": "What the predictor reads; without a `question_column` the image alone. `question` is the blind "
            "arm, a control: how far the questions alone give the answers away."
        },
    )
    augmentation: Literal["none", "crop_and_colour"] = field(
        default="none",
        metadata={
            "help": "`crop_and_colour` crops training pictures to at least 60 % of their area, and changes their "
            "brightness, contrast and saturation; nothing is flipped. Evaluation sees pictures as they are."
        },
    )
    feature_cache: str | None = field(
        default=None,
        metadata={
            "help": "Directory that keeps the features of a frozen vision encoder, by the content of the pictures, so "
            "that each picture is encoded once. Their size is logged before."
        },
    )


@dataclass
class VisionLossOptions:
    """The loss, and what learns from it how fast."""

    jepa_loss: Literal["info_nce_symmetric", "info_nce", "cosine"] = field(
        default="info_nce_symmetric",
        metadata={
            "help": "InfoNCE between predictions and answers of the batch, all processes together, both ways or from "
            "the prediction alone; or 1 - cosine. Rows with the same answer are no negatives of each other."
        },
    )
    info_nce_temperature: float = field(default=0.07, metadata={"help": "Temperature of InfoNCE, above 0."})
    trains_temperature: bool = field(
        default=False,
        metadata={"help": "Learn the temperature, from `info_nce_temperature` on; it stays at least 0.01."},
    )
    jepa_target: Literal["online", "stop_gradient"] = field(
        default="online",
        metadata={
            "help": "Gradients flow into the answers' side too, or not at all, so that its encoder and head stay as "
            "they are."
        },
    )
    jepa_regulariser: Literal["none", "sigreg", "vicreg"] = field(
        default="none",
        metadata={
            "help": "A term against collapse, of predictions and answers: they become a standard Gaussian sample "
            "(`sigreg`, LeJEPA) or spread and decorrelated (`vicreg`)."
        },
    )
    regulariser_weight: float = field(
        default=0.05, metadata={"help": "Weight of `jepa_regulariser`, at least 0, which only logs it."}
    )
    vision_encoder_learning_rate_factor: float = field(
        default=0.0,
        metadata={"help": "Learning rate of the vision encoder over `learning_rate`; 0 freezes it."},
    )
    text_encoder_learning_rate_factor: float = field(
        default=0.05,
        metadata={"help": "Learning rate of the text encoder over `learning_rate`; 0 freezes it."},
    )


@dataclass
class VisionOptions(VisionLossOptions, VisionDataOptions, VisionModelOptions):
    """Every option of VL-JEPA, in the order of a recipe: model, data, loss."""
