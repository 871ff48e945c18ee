"""A recipe of VL-JEPA, or of its token control -> its data, model and trainer."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedConfig, TrainerCallback, set_seed

from llm_jepa.data.loading import load_split
from llm_jepa.data.picture_files import picture_directory
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_errors_explained, unpartitioned
from llm_jepa.models.trainable_weights import keep_fp32_master_weights
from llm_jepa.settings.vision_checks import unread_options
from llm_jepa.vision.base_model import PictureQuestionModel
from llm_jepa.vision.base_trainer import PictureQuestionTrainer
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.picture_encoder import check_num_frames, refuse_random_patches
from llm_jepa.vision.processor import PictureQuestionProcessor, VLJEPAProcessor
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.token_model import TokenVLM
from llm_jepa.vision.token_processor import TokenProcessor
from llm_jepa.vision.token_trainer import TokenVLMTrainer
from llm_jepa.vision.trainer import VLJEPATrainer

MODELS: dict[str, type[PictureQuestionModel]] = {"embedding": VLJEPAModel, "tokens": TokenVLM}
TRAINERS: dict[str, type[PictureQuestionTrainer]] = {"embedding": VLJEPATrainer, "tokens": TokenVLMTrainer}
"""`answer_form` -> what is trained, and by what."""

logger = logging.getLogger(__name__)


def build_vision_trainer(recipe: VisionRecipe, callbacks: Sequence[TrainerCallback] = ()) -> PictureQuestionTrainer:
    """Load the data and the model of a recipe, and build its trainer.

    Raises:
        ValueError: Data or model cannot be loaded, or do not fit (`PictureQuestionTrainer`).
    """
    args = recipe.training
    if args.disable_tqdm or args.local_process_index > 0:
        disable_progress_bars()
    unread = unread_options(recipe.settings)
    if unread:
        logger.info(f"`answer_form: {args.answer_form}` does not read `{'`, `'.join(unread)}`.")
    with args.main_process_first(desc="loading of data"):
        train_dataset = load_rows(recipe, args.dataset_train_split)
        evaluates = args.eval_strategy != "no"
        eval_dataset = load_rows(recipe, args.dataset_test_split) if evaluates else None
    set_seed(args.seed)
    with unpartitioned(args):
        model = load_model(args)
    directory = picture_directory(recipe.source.dataset_name)
    return TRAINERS[args.answer_form](model, args, train_dataset, eval_dataset, directory, [*callbacks])


def load_rows(recipe: VisionRecipe, split: str) -> Dataset:
    """A split of a recipe's data."""
    rows = load_split(recipe.source, split)
    assert isinstance(rows, Dataset), "recipes of VL-JEPA have no streams"
    return rows


def load_model(args: VisionConfig) -> PictureQuestionModel:
    """The model of a recipe: that of an earlier stage, or pretrained parts joined by new layers.

    Raises:
        ValueError: A part cannot be loaded, does not take what a row has or gives other tokens each time, the vision
            encoder would leave out frames, or the model of the earlier stage has other parts.
    """
    options = model_options(args)
    if args.model_name_or_path is not None:
        model = load_saved_model(args.model_name_or_path, args, f"`model_name_or_path: {args.model_name_or_path}`")
        for name, value in options.items():
            setattr(model.config, name, value)
        if isinstance(model, VLJEPAModel) and args.trains_temperature:
            model.restart_temperature()
        model.processor.num_frames = args.num_frames
        model.freeze_parts()
    else:
        kind: Any = MODELS[args.answer_form]
        with load_errors_explained("The model of the recipe"):
            model = kind.from_parts(*part_locations(args), args.predictor_layers, args.predictor_weights, **options)
    if args.image_size is not None:
        model.processor.resize(args.image_size)
    check_num_frames(model.vision_encoder, args.num_frames)
    height, width = model.processor.pixel_shape(model.vision_encoder.config)
    model.check_encoders(height, width)
    refuse_random_patches(model.vision_encoder, height, width)
    model.freeze_unused_weights(height, width)
    keep_fp32_master_weights(model)
    return model


def load_saved_model(name_or_path: str | Path, args: VisionConfig, named: str) -> PictureQuestionModel:
    """A trained model of the recipe's `answer_form`.

    Args:
        named: What an error calls it.

    Raises:
        ValueError: It cannot be loaded, answers in the other form, or has other parts or sizes than the recipe.
    """
    kind: Any = MODELS[args.answer_form]
    with load_errors_explained(named):
        found = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
    if found != kind.config_class.model_type:
        raise ValueError(
            f"{named} is of the type {found}, and `answer_form: {args.answer_form}` needs one of the type "
            f"{kind.config_class.model_type}. Set the other `answer_form`."
        )
    with load_errors_explained(named):
        model = kind.from_pretrained(name_or_path)
    _check_same_parts(model.config, args, named)
    return model


def load_run_model(directory: Path, args: VisionConfig) -> PictureQuestionModel:
    """The model of a run, whose recipe may be overridden in what does not make the model.

    Raises:
        ValueError: As by `load_saved_model`, or it reads other inputs, frames or pixels than the recipe says.
    """
    named = f"The run {directory}"
    model = load_saved_model(directory, args, named)
    there: dict[str, Any] = {"num_frames": model.config.num_frames}
    if model.config.sees_images != args.sees_images:
        there["inputs"] = "image_and_question" if model.config.sees_images else "question"
    if args.image_size is not None:
        height, width = model.processor.pixel_shape(model.vision_encoder.config)
        there["image_size"] = height if height == width else f"{height} x {width}"
    _check_same(there, args, named)
    return model


def load_processor(args: VisionConfig) -> PictureQuestionProcessor:
    """The processor that the model of a recipe begins with, without the model."""
    kind: Any = TokenProcessor if args.answer_form == "tokens" else VLJEPAProcessor
    processor = kind.from_parts(*part_locations(args), args.num_frames)
    if args.image_size is not None:
        processor.resize(args.image_size)
    return processor


def part_locations(args: VisionConfig) -> list[str]:
    """Directories or Hub ids of the parts that the recipe makes a model of, in the order of `from_parts`."""
    return [resolve_model(name) for name in args.part_names.values()]


def model_options(args: VisionConfig) -> dict[str, Any]:
    """What the options say of the model's configuration."""
    shared = {
        "part_names": args.part_names,
        "num_frames": args.num_frames,
        "sees_images": args.sees_images,
        "max_question_tokens": args.max_question_tokens,
        "max_answer_tokens": args.max_answer_tokens,
        "trains_vision_encoder": args.vision_encoder_learning_rate_factor > 0,
    }
    if args.answer_form == "tokens":
        return shared
    return shared | {
        "embedding_size": args.embedding_size,
        "text_pooling": args.text_pooling,
        "trains_text_encoder": args.text_encoder_learning_rate_factor > 0,
        "trains_target_head": args.jepa_target == "online",
        "trains_temperature": args.trains_temperature,
        "loss_temperature": args.info_nce_temperature,
    }


def _check_same_parts(config: Any, args: VisionConfig, named: str) -> None:
    """Check that a trained model was made of the parts and sizes that the recipe names."""
    there = {key: config.part_names.get(key) for key in args.part_names}
    if args.answer_form == "tokens":
        there["predictor_layers"] = config.language_config.num_hidden_layers
    else:
        there |= {
            "predictor_layers": config.predictor_config.num_hidden_layers,
            "embedding_size": config.embedding_size,
            "text_pooling": config.text_pooling,
        }
    _check_same(there, args, named)


def _check_same(there: dict[str, Any], args: VisionConfig, named: str) -> None:
    for key, value in there.items():
        if value != getattr(args, key):
            raise ValueError(
                f"{named} was made with `{key}: {value}`; the recipe says {getattr(args, key)}. Write the same."
            )
