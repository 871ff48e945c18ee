"""A recipe of VL-JEPA -> its data, model and trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, set_seed

from llm_jepa.data.loading import load_split
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_errors_explained, unpartitioned
from llm_jepa.models.trainable_weights import keep_fp32_master_weights
from llm_jepa.settings.vision_checks import PARTS
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.model_config import VLJEPAConfig
from llm_jepa.vision.processor import VLJEPAProcessor
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.trainer import VLJEPATrainer


def build_vision_trainer(recipe: VisionRecipe, callbacks: Sequence[TrainerCallback] = ()) -> VLJEPATrainer:
    """Load the data and the model of a recipe, and build its trainer.

    Raises:
        ValueError: Data or model cannot be loaded, or do not fit (`VLJEPATrainer`).
    """
    args = recipe.training
    with args.main_process_first(desc="loading of data"):
        train_dataset = load_rows(recipe, args.dataset_train_split)
        evaluates = args.eval_strategy != "no"
        eval_dataset = load_rows(recipe, args.dataset_test_split) if evaluates else None
    set_seed(args.seed)
    with unpartitioned(args):
        model = load_model(args)
    return VLJEPATrainer(
        model, args, train_dataset, eval_dataset, picture_directory(recipe.source.dataset_name), [*callbacks]
    )


def load_rows(recipe: VisionRecipe, split: str) -> Dataset:
    """A split of a recipe's data."""
    rows = load_split(recipe.source, split)
    assert isinstance(rows, Dataset), "recipes of VL-JEPA have no streams"
    return rows


def picture_directory(dataset_name: str | None) -> Path | None:
    """The directory of local data, which relative paths of pictures are relative to; None for data on the Hub."""
    path = Path(dataset_name or "").expanduser()
    if not dataset_name or not path.exists():
        return None
    return path if path.is_dir() else path.parent


def load_processor(args: VisionConfig) -> VLJEPAProcessor:
    """The processor that the model of a recipe begins with, without the model."""
    vision, language, text = (resolve_model(str(getattr(args, key))) for key in PARTS)
    processor = VLJEPAProcessor.from_parts(vision, language, text, args.num_frames)
    if args.image_size is not None:
        processor.resize(args.image_size)
    return processor


def load_model(args: VisionConfig) -> VLJEPAModel:
    """The model of a recipe: that of an earlier stage, or three pretrained parts joined by new layers.

    Raises:
        ValueError: A part cannot be loaded, or the model of the earlier stage has other parts.
    """
    options = model_options(args)
    if args.model_name_or_path is not None:
        with load_errors_explained(f"`model_name_or_path: {args.model_name_or_path}`"):
            model = VLJEPAModel.from_pretrained(args.model_name_or_path)
        _check_same_parts(model.config, args)
        for name, value in options.items():
            setattr(model.config, name, value)
        model.processor.num_frames = args.num_frames
        model.freeze_parts()
    else:
        vision, language, text = (resolve_model(str(getattr(args, key))) for key in PARTS)
        with load_errors_explained("The model of the recipe"):
            model = VLJEPAModel.from_parts(
                vision, language, text, args.predictor_layers, args.predictor_weights, **options
            )
    if args.image_size is not None:
        model.processor.resize(args.image_size)
    keep_fp32_master_weights(model)
    return model


def model_options(args: VisionConfig) -> dict[str, Any]:
    """What the options say of `VLJEPAConfig`."""
    return {
        "part_names": {key: getattr(args, key) for key in PARTS},
        "embedding_size": args.embedding_size,
        "text_pooling": args.text_pooling,
        "num_frames": args.num_frames,
        "sees_images": args.sees_images,
        "max_question_tokens": args.max_question_tokens,
        "max_answer_tokens": args.max_answer_tokens,
        "trains_vision_encoder": args.vision_encoder_learning_rate_factor > 0,
        "trains_text_encoder": args.text_encoder_learning_rate_factor > 0,
        "trains_target_head": args.jepa_target == "online",
        "trains_temperature": args.trains_temperature,
        "loss_temperature": args.info_nce_temperature,
    }


def _check_same_parts(config: VLJEPAConfig, args: VisionConfig) -> None:
    """Check that the model of an earlier stage was made of the parts and sizes that the recipe names."""
    there = {
        **{key: config.part_names.get(key) for key in PARTS},
        "predictor_layers": config.predictor_config.num_hidden_layers,
        "embedding_size": config.embedding_size,
        "text_pooling": config.text_pooling,
    }
    for key, value in there.items():
        if value != getattr(args, key):
            raise ValueError(
                f"`model_name_or_path: {args.model_name_or_path}` was made with `{key}: {value}`; the recipe says "
                f"{getattr(args, key)}. Write the same."
            )
