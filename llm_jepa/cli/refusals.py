"""What each command refuses before its module imports what takes seconds."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from llm_jepa.cli.argument_types import GENERATION_METHODS
from llm_jepa.cli.arguments import REQUIRED_TO_LOOK, names_a_recipe
from llm_jepa.compute.devices import find_gpu
from llm_jepa.data.source import check_data_set
from llm_jepa.evaluation.decoding_checks import DecodingRequest, check_decoding
from llm_jepa.evaluation.latency_checks import check_latency
from llm_jepa.evaluation.latency_report import check_same_recipe, read_latency
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.hub.login import check_push_command
from llm_jepa.inference.answer_checks import check_changes, check_index, check_picture_question, check_queries
from llm_jepa.inference.candidates import read_answers
from llm_jepa.inference.export_checks import check_export
from llm_jepa.inference.generate_checks import check_drafting, check_generate
from llm_jepa.models.decoder_files import FOLDER, has_text_decoder
from llm_jepa.models.local_files import artifact_kind, check_merge, refuse_token_vlm
from llm_jepa.models.source import check_local_model, check_model_on_hub
from llm_jepa.models.subject_checks import check_subject, recipe_of, settings_and_directory
from llm_jepa.options.text_decoder import TextDecoderOptions
from llm_jepa.planning.break_even import check_same_gpu
from llm_jepa.preflight import check_files, check_inputs
from llm_jepa.settings.checks import REQUIRED, check_recipe
from llm_jepa.settings.reading import read_overrides, read_settings
from llm_jepa.settings.schema import recipe_kind

DECODER_OPTIONS = tuple(option.name for option in fields(TextDecoderOptions))
DRAFT_ARGUMENTS = ("num_drafted_tokens", "draft_vocabulary")
INDEX_ARGUMENTS = ("index", "answers", "answers_column", "answers_split", "add", "delete")
CANDIDATE_ARGUMENTS = ("labels", "shortlist", "fallback_margin", "dev_split")
"""What has an effect with `eval --decoding` alone."""


def check_arguments(args: argparse.Namespace) -> None:
    """Check a command line that argparse has read, and what it names on this machine; read the file of an experiment.

    Raises:
        ValueError: The command cannot do what it is asked for.
    """
    CHECKS[args.command](args)


def _check_train(args: argparse.Namespace) -> None:
    check_files(check_recipe(Path(args.recipe), args.overrides, REQUIRED))


def _check_inspect(args: argparse.Namespace) -> None:
    if not names_a_recipe(args):
        read_overrides(args.overrides)
        check_data_set(args.recipe)
        return
    if args.max_rows is not None:
        raise ValueError("`--max_rows` has no effect on a recipe, only on data.")
    if args.html is not None and args.html.is_dir():
        raise ValueError(f"`--html {args.html}` is a directory. Name a file.")
    check_inputs(check_recipe(Path(args.recipe), args.overrides, REQUIRED_TO_LOOK))


def _check_eval(args: argparse.Namespace) -> None:
    check_subject(args.recipe, args.overrides, args.checkpoints)
    args.vision_subject = _vision_subject(args)
    if args.vision_subject is None:
        _check_decoding(args)


def _check_latency(args: argparse.Namespace) -> None:
    args.vision_subject = _vision_subject(args)
    if args.vision_subject is not None:
        check_subject(args.recipe, args.overrides, ["tuned"])
        return
    has_drafting_options = args.num_drafted_tokens is not None or args.draft_vocabulary is not None
    check_latency(args.recipe, args.overrides, args.labels, args.shortlist, has_drafting_options)


def _check_generate(args: argparse.Namespace) -> None:
    check_generate(args.run, args.prompts, args.decoding, args.num_drafted_tokens, args.draft_vocabulary)
    if args.stream and args.json:
        raise ValueError("`--stream` prints the text as it comes, and `--json` when it is whole. Leave one out.")


def _read_experiment(args: argparse.Namespace) -> None:
    args.experiment = read_experiment(args.experiment)


def _check_answer(args: argparse.Namespace) -> None:
    changes_index = any(one is not None for one in (args.answers, args.add, args.delete))
    if artifact_kind(args.run) == "vision":
        check_queries(args.query, args.queries, args.image is not None)
        others = {name: getattr(args, name) for name in INDEX_ARGUMENTS}
        check_picture_question(
            args.run, args.image, args.query is not None or args.queries is not None, args.candidates, others
        )
        if args.top is not None and args.candidates is None:
            raise ValueError("`--top` has no effect without `--candidates`; a text decoder writes one text.")
        return
    refuse_token_vlm(args.run, "answer")
    for name in ("image", "candidates"):
        if getattr(args, name) is not None:
            raise ValueError(f"`--{name}` has no effect on `{args.run}`, which is no run of VL-JEPA. Leave it out.")
    if args.index is None:
        raise ValueError("There is no index of answers to ask. Name its directory: `--index DIR`.")
    check_queries(args.query, args.queries, changes_index)
    check_index(args.run, args.index, args.answers, args.answers_column, args.answers_split)
    check_changes(args.index, args.answers, args.add, args.delete)


def _vision_subject(args: argparse.Namespace) -> tuple[Path, list[str]] | None:
    """The recipe of a VL-JEPA run and its overrides; None for other subjects. What has no effect on it is refused."""
    found = recipe_of(args.recipe, args.overrides)
    if found is None or recipe_kind(read_settings(*found)) == "text":
        return None
    for name in ("decoding", "shortlist", "fallback_margin", "dev_split", "vllm_options", *DRAFT_ARGUMENTS):
        if getattr(args, name, None) is not None:
            raise ValueError(f"`--{name}` has no effect on a run of VL-JEPA. Leave it out.")
    if args.labels is not None:
        read_answers(args.labels)
    return found


def _check_train_decoder(args: argparse.Namespace) -> None:
    """Check a run of VL-JEPA and the options of its decoder, and keep both: `vision_subject`, `decoder_options`."""
    args.decoder_options = TextDecoderOptions(**{name: getattr(args, name) for name in DECODER_OPTIONS})
    args.vision_subject = recipe_of(args.recipe, args.overrides)
    if args.vision_subject is None:
        artifact_kind(Path(args.recipe))
    settings = {} if args.vision_subject is None else read_settings(*args.vision_subject)
    if recipe_kind(settings) == "text":
        raise ValueError(f"`{args.recipe}` is no run of VL-JEPA. A text decoder stands on top of one.")
    check_subject(args.recipe, args.overrides, None)
    if settings.get("answer_form") == "tokens":
        raise ValueError(f"`{args.recipe}` answers in tokens (`answer_form: tokens`); it needs no text decoder.")
    run = Path(settings["output_dir"]).expanduser()
    if has_text_decoder(run):
        raise ValueError(f"`{run / FOLDER}` is there. Delete it to train another decoder.")
    language_model = args.decoder_options.language_model or settings["language_model"]
    check_local_model(language_model, "language_model")
    check_model_on_hub(language_model, "language_model")


def _check_latency_file(args: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Read what `plan` is given of latencies, and keep it as `args.latency_report`."""
    args.latency_report = read_latency(args.latency)
    check_same_recipe(args.latency_report, settings, args.latency)
    if args.gpu is not None and args.serving_price_per_hour is None:
        check_same_gpu(args.gpu, args.latency_report.hardware)


def _check_decoding(args: argparse.Namespace) -> None:
    """Check what `eval` is asked to choose from candidates, and keep it as `args.decoding_request`."""
    args.decoding_request = None
    if args.decoding is not None and {*args.decoding} <= {*GENERATION_METHODS}:
        _check_generation(args)
        return
    for name in DRAFT_ARGUMENTS:
        if getattr(args, name) is not None:
            raise ValueError(f"`--{name}` has no effect without `--decoding draft`. Leave it out.")
    has = "no effect without" if args.decoding is None else "no effect with"
    for name in CANDIDATE_ARGUMENTS if args.decoding is None else ("checkpoints", "vllm_options"):
        if getattr(args, name) is not None:
            raise ValueError(f"`--{name}` has {has} `--decoding`. Leave it out.")
    if args.decoding is not None:
        if args.shortlist is not None and "shortlist" not in args.decoding:
            raise ValueError("`--shortlist` has no effect without `--decoding shortlist`. Leave it out.")
        if args.backend != "transformers":
            raise ValueError(f"`--decoding` computes with transformers; `--backend {args.backend}` has no effect.")
        request = DecodingRequest(args.decoding, args.labels, args.fallback_margin, args.dev_split)
        check_decoding(request, args.recipe, args.overrides)
        args.decoding_request = request


def _check_generation(args: argparse.Namespace) -> None:
    """Check what `eval` is asked to generate in several ways."""
    for name in (*CANDIDATE_ARGUMENTS, "checkpoints", "vllm_options"):
        if getattr(args, name) is not None:
            raise ValueError(f"`--{name}` has no effect with `--decoding {','.join(args.decoding)}`. Leave it out.")
    if args.backend != "transformers":
        raise ValueError(f"`--decoding` computes with transformers; `--backend {args.backend}` has no effect.")
    _, directory = settings_and_directory(args.recipe, args.overrides)
    method = "draft" if "draft" in args.decoding else args.decoding[0]
    check_drafting(directory, method, args.num_drafted_tokens, args.draft_vocabulary)


def _check_plan(args: argparse.Namespace) -> None:
    _check_plan_options(args)
    settings = check_recipe(Path(args.recipe), args.overrides, REQUIRED)
    for name in ("calibrate", "price_per_hour", "latency") if recipe_kind(settings) != "text" else ():
        if getattr(args, name):
            raise ValueError(f"`--{name}` has no effect on a recipe of VL-JEPA. Leave it out.")
    if args.latency is not None:
        _check_latency_file(args, settings)
    check_inputs(settings)


def _check_plan_options(args: argparse.Namespace) -> None:
    for name in ("gpus", "price_per_hour", "request_seconds", "gain", "serving_price_per_hour"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"`--{name}` is {value}; it must be a finite number above 0.")
    if args.gpu is not None:
        find_gpu(args.gpu)
    if args.gpus == 1 and args.launch not in (None, "single", "zero3-offload"):
        raise ValueError(f"`--launch {args.launch}` spreads over several GPUs; give `--gpus`.")
    if args.gpus > 1 and args.launch == "single":
        raise ValueError(f"`--launch single` is one process; leave it out, or `--gpus {args.gpus}`.")
    if args.request_seconds is not None and args.price_per_hour is None:
        raise ValueError("`--request_seconds` has no effect without `--price_per_hour`.")
    if args.gain is not None and args.request_seconds is None:
        raise ValueError("`--gain` has no effect without `--request_seconds`.")
    if args.latency is not None and args.gpu is None and not args.calibrate:
        raise ValueError("`--latency` needs the seconds of training: give `--gpu`, or `--calibrate` on this machine.")
    if args.serving_price_per_hour is not None and (args.latency is None or args.price_per_hour is None):
        raise ValueError("`--serving_price_per_hour` has no effect without `--latency` and `--price_per_hour`.")
    if args.price_per_hour is not None and args.gpu is None and not args.calibrate:
        raise ValueError("`--price_per_hour` needs hours: give `--gpu`, or `--calibrate` on this machine.")


CHECKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": _check_train,
    "train-decoder": _check_train_decoder,
    "inspect": _check_inspect,
    "plan": _check_plan,
    "fetch-model": lambda args: None,
    "eval": _check_eval,
    "compare": _read_experiment,
    "probe": lambda args: check_subject(args.recipe, args.overrides, args.checkpoints),
    "answer": _check_answer,
    "generate": _check_generate,
    "latency": _check_latency,
    "export": lambda args: check_export(args.run, args.to, args.output_dir),
    "merge": lambda args: check_merge(args.adapter, args.output_dir),
    "push": lambda args: check_push_command(args.directory, args.repo_id),
    "env": lambda args: None,
}
"""Command -> what checks its arguments."""
