"""What `llm-jepa eval --decoding` refuses by looking at its arguments and files. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_jepa.inference.candidates import read_answers
from llm_jepa.models.latent_predictor import check_has_views, read_facts
from llm_jepa.models.subject_checks import settings_and_directory
from llm_jepa.runs.record import settings_of_run
from llm_jepa.settings.ranges import check_split

FROM_DEV = "auto"
"""The value of `--fallback_margin` that has it chosen on the rows of `--dev_split`."""


@dataclass(frozen=True)
class DecodingRequest:
    """What `llm-jepa eval --decoding` is asked for.

    Attributes:
        decodings: Names of decodings, each once.
        labels: A file with a label per line.
        fallback_margin: A margin, `auto`, or None for no fallback.
        dev_split: The split on which `auto` chooses.
    """

    decodings: Sequence[str]
    labels: Path | None = None
    fallback_margin: str | float | None = None
    dev_split: str | None = None


def check_decoding(request: DecodingRequest, subject: str, overrides: list[str]) -> None:
    """Check a request against its subject.

    Raises:
        ValueError: An option is without effect or missing, the file of labels is wrong, or the run has no latent
            predictor of views.
    """
    settings, directory = settings_and_directory(subject, overrides)
    check_labels(request.labels, settings)
    _check_fallback(request)
    if {"latent", "shortlist"} & {*request.decodings}:
        check_ranks(settings, directory)


def check_ranks(settings: Mapping[str, Any], directory: Path) -> None:
    """Check that a run ranks answers to the sources of conversations.

    Raises:
        ValueError: It has no latent predictor of views, or its source view is another column.
    """
    check_has_views(read_facts(directory))
    if has_own_source_view(settings, directory):
        raise ValueError(
            "This asks with the conversation's source, and this run has a `source_view_column`. "
            "Use `llm-jepa answer`, with texts of that column."
        )


def has_own_source_view(settings: Mapping[str, Any], directory: Path) -> bool:
    """Whether the source view is another column than the conversation's source.

    Args:
        settings: Those of the recipe. The record of the run in the directory, or of one that was merged, counts too.
    """
    return any(one.get("source_view_column") is not None for one in (settings, settings_of_run(directory)))


def check_labels(labels: Path | None, settings: Mapping[str, Any]) -> None:
    """Check a file of labels, if there is one, and that it has an effect.

    Raises:
        ValueError: The rows have choices of their own, or the file is wrong.
    """
    if labels is None:
        return
    if settings.get("task") == "choice":
        raise ValueError("`--labels` has no effect with `task: choice`, whose rows have their own. Leave it out.")
    read_answers(labels)


def _check_fallback(request: DecodingRequest) -> None:
    margin = request.fallback_margin
    if margin is not None and not {"latent", "generate"} <= {*request.decodings}:
        raise ValueError("`--fallback_margin` needs both: `--decoding latent,generate`.")
    if margin == FROM_DEV and request.dev_split is None:
        raise ValueError("`--fallback_margin auto` chooses on rows that are not tested: give `--dev_split SPLIT`.")
    if margin != FROM_DEV and request.dev_split is not None:
        raise ValueError("`--dev_split` has an effect with `--fallback_margin auto` alone. Leave it out.")
    check_split({"dev_split": request.dev_split}, "dev_split")
