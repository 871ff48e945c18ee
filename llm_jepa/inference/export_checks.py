"""What `llm-jepa export` refuses by looking at its arguments and files. Imports no torch."""

import importlib.util
from pathlib import Path
from typing import Literal, get_args

from llm_jepa.models.latent_predictor import PredictorFacts, check_has_views, read_facts
from llm_jepa.models.local_files import (
    ADAPTER_CONFIG,
    MODEL_CONFIG,
    artifact_kind,
    check_new_directory,
    check_text_run,
)
from llm_jepa.runs.record import RECIPE_FILE, read_json
from llm_jepa.settings.reading import read_settings

ExportTarget = Literal["vllm", "sentence-transformers"]
EXPORT_TARGETS: tuple[ExportTarget, ...] = get_args(ExportTarget)
DRAFTING_FORM = "decoder_layer"
"""The `latent_predictor` that servers load."""
QUANTISING_KEYS = ("load_in_4bit", "load_in_8bit")


def check_export(run: Path, target: ExportTarget, output_dir: Path) -> None:
    """Check that a run can be exported to a target, as far as its files tell.

    Raises:
        ValueError: The directory is not empty, the run has no latent predictor that the target can take, its base is
            quantised, or sentence-transformers is needed and missing.
    """
    check_new_directory(output_dir)
    check_text_run(run, "export")
    facts = read_facts(run)
    if target == "vllm":
        check_served_drafter(facts)
    else:
        check_expressible(facts)
    if is_quantised(run):
        raise ValueError(quantised_message(run))
    if target == "sentence-transformers" and importlib.util.find_spec("sentence_transformers") is None:
        raise ValueError(
            "sentence-transformers is not installed. Install it: pip install 'llm-jepa[sentence-transformers]'"
        )


def check_served_drafter(facts: PredictorFacts) -> None:
    """Check that a predictor is a drafter of EAGLE's form.

    Raises:
        ValueError: It is not.
    """
    form = facts.options.get("latent_predictor")
    if "next_latent" not in facts.objectives or form != DRAFTING_FORM:
        given = ", ".join(facts.objectives) if form is None else f"the form {form}"
        raise ValueError(
            f"The latent predictor is of {given}; vLLM drafts with decoder layers alone. Train with `jepa_objective: "
            f"next_latent` and `latent_predictor: {DRAFTING_FORM}`."
        )


def check_expressible(facts: PredictorFacts) -> None:
    """Check that the embeddings of both views are hidden states of the last layer at the last token.

    Raises:
        ValueError: They are not, or the predictor encodes no views.
    """
    check_has_views(facts)
    for option, value in (("jepa_readout", "last"), ("target_layer", 1)):
        if facts.options[option] != value:
            raise ValueError(
                f"The run has `{option}: {facts.options[option]}`; sentence-transformers reads both views out at the "
                f"last token after the last layer. Train with `{option}: {value}`, or encode with `LatentEncoder`."
            )


def is_quantised(run: Path) -> bool:
    """Whether a run's adapter has a quantised base, or its weights are quantised themselves."""
    if artifact_kind(run) != "adapter":
        return read_json(run / MODEL_CONFIG).get("quantization_config") is not None
    settings = read_settings(run / RECIPE_FILE) if (run / RECIPE_FILE).is_file() else {}
    base = settings.get("model_name_or_path") or read_json(run / ADAPTER_CONFIG).get("base_model_name_or_path") or run
    configs = [read_json(directory / MODEL_CONFIG) for directory in (run, Path(base))]
    quantising = [settings.get(key) for key in QUANTISING_KEYS]
    return any(quantising) or any(one.get("quantization_config") is not None for one in configs)


def quantised_message(run: Path) -> str:
    """The message on a run whose base is quantised."""
    return (
        f"The base of `{run}` is quantised. Merge it first, `llm-jepa merge {run} --output_dir NEW`, and export NEW."
    )
