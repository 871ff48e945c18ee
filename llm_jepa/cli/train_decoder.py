"""Train a text decoder on top of a finished run of VL-JEPA, which writes the texts of its predictions."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import transformers

from llm_jepa.cli.progress import bars
from llm_jepa.evaluation.decoded_text import DecodedText, score_decoded_text
from llm_jepa.evaluation.vision import embed_rows, load_held_out, with_features
from llm_jepa.files.atomic import write_json
from llm_jepa.files.staged import staged_directory
from llm_jepa.models.decoder_files import FACTS_FILE, FOLDER
from llm_jepa.models.weights_digest import weights_digest
from llm_jepa.options.text_decoder import TextDecoderOptions
from llm_jepa.vision.building import load_rows, load_run_model
from llm_jepa.vision.decoder_training import DecoderTraining, train_text_decoder
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe

MILLION = 10**6


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    path, overrides = args.vision_subject
    options: TextDecoderOptions = args.decoder_options
    recipe = parse_any_recipe([str(path), *overrides])
    assert isinstance(recipe, VisionRecipe)
    directory = recipe.output_dir / FOLDER
    language_model = options.language_model or recipe.settings["language_model"]
    with staged_directory(directory) as staging:
        model: Any = load_run_model(recipe.output_dir, recipe.training)
        model = model.to(recipe.training.device).eval()
        answers = load_rows(recipe, recipe.training.dataset_train_split)[recipe.training.answer_column][:]
        held_out = with_features(load_held_out(recipe, model.processor, max_rows=args.max_rows), recipe, model)
        checkpoint = weights_digest(recipe.output_dir)
        with bars(["steps"], options.num_steps) as advance:
            decoder, training = train_text_decoder(
                model, answers, language_model, options, checkpoint, lambda number: advance("steps", number)
            )
        with bars(["rows"], len(held_out.rows)) as advance:
            prediction_NE = embed_rows(model, held_out, options.batch_size, lambda number: advance("rows", number))
        scores = score_decoded_text(model, decoder, prediction_NE, held_out.golds)
        decoder.save_pretrained(staging)
        content = {
            **asdict(decoder.facts),
            "options": asdict(options) | {"language_model": language_model},
            "training": asdict(training),
            "split": recipe.training.dataset_test_split,
            "exact_match": {name: asdict(rate) | {"interval": rate.interval} for name, rate in vars(scores).items()},
        }
        write_json(content, staging / FACTS_FILE)
    _show(directory, language_model, options, training, scores)
    return 0


def _show(
    directory: Path, language_model: str, options: TextDecoderOptions, training: DecoderTraining, scores: DecodedText
) -> None:
    print(f"text decoder: {directory}")
    print(
        f"  the last {options.num_layers} layers of {language_model}, {options.num_prefix_vectors} prefix vectors: "
        f"{training.parameters / MILLION:.1f} million parameters, {training.trained_parameters / MILLION:.1f} trained"
    )
    print(
        f"  {training.rows:,} answers, {training.different_answers:,} different, noise {options.noise:g}; "
        f"{training.steps:,} steps, {training.seconds:.0f} seconds, loss {training.loss:.3f}"
    )
    print(f"right of {scores.predictions.count:,} held-out rows, letter for letter:")
    for name, rate in (
        ("text of the prediction", scores.predictions),
        ("text of the answer's own embedding", scores.answers),
        ("nearest of all answers, without a decoder", scores.nearest),
    ):
        print(f"  {100 * rate.fraction:.1f} %  {name}")
