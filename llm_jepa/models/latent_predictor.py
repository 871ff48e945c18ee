"""The latent predictor of a run, in the folder `latent_predictor` beside its model.

It holds the weights of the objective's own module and the options that are needed to use it. Latent inference reads
it; plain transformers and PEFT ignore it. Imports no torch until weights are read or written.
"""

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.files.atomic import partial_path, write_json
from llm_jepa.files.cache import sha256_of
from llm_jepa.runs.record import read_json, toolkit_commit
from llm_jepa.settings.objectives import VIEW_OPTIONS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FOLDER = "latent_predictor"
WEIGHTS_FILE = "predictor.safetensors"
FACTS_FILE = "latent_predictor.json"
PREDICTOR_FILES = (f"{FOLDER}/{FACTS_FILE}", f"{FOLDER}/{WEIGHTS_FILE}")
DRAFT_TOKENS = "draft_token_ids_V"
"""Among the weights: the tokens of the training's targets, the most frequent first."""
FORMAT = 1


@dataclass(frozen=True)
class PredictorFacts:
    """What a latent predictor is. `latent_predictor.json` has the same keys, and the weights' digest.

    Attributes:
        objectives: The objectives that trained it.
        options: Option -> its value in training, for all that are needed to use the predictor.
        base_name_or_path: The model that training started from.
        base_revision: Its revision on the Hub, if training named one.
        width: The model's hidden size.
        tokenizer: `tokenizer_digest` of the tokenizer.
        version, commit: Of the toolkit.
        has_plain_prompts: Whether the rows of training were plain strings, which no chat template rendered.
    """

    objectives: tuple[str, ...]
    options: dict[str, Any]
    base_name_or_path: str | None
    base_revision: str | None
    width: int
    tokenizer: str
    version: str
    commit: str | None
    has_plain_prompts: bool = False


def facts_of(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    objectives: tuple[str, ...],
    options: Mapping[str, Any],
    has_plain_prompts: bool = False,
    base_revision: str | None = None,
) -> PredictorFacts:
    """The facts of a predictor that was trained in this process, beside a causal LM without its adapter."""
    return PredictorFacts(
        objectives=objectives,
        options=dict(options),
        base_name_or_path=model.config.name_or_path,
        base_revision=base_revision,
        width=model.config.get_text_config().hidden_size,
        tokenizer=tokenizer_digest(tokenizer),
        version=importlib.metadata.version("llm-jepa"),
        commit=toolkit_commit(),
        has_plain_prompts=has_plain_prompts,
    )


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of the vocabulary and the chat template."""
    content = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write_latent_predictor(directory: Path, facts: PredictorFacts, weights: "Mapping[str, Tensor]") -> None:
    """Write a run's `latent_predictor/`. The facts are written last: without them the folder counts as absent."""
    from safetensors.torch import save_file

    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS_FILE).unlink(missing_ok=True)
    partial = partial_path(folder / WEIGHTS_FILE)
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, partial)
    partial.chmod(0o644)  # safetensors makes its files readable for their owner only
    partial.replace(folder / WEIGHTS_FILE)
    content = {"format": FORMAT, **asdict(facts), "weights_sha256": sha256_of(folder / WEIGHTS_FILE)}
    write_json(content, folder / FACTS_FILE)


def has_latent_predictor(directory: Path) -> bool:
    """Whether a directory of a model or an adapter holds a latent predictor."""
    return (directory / FOLDER / FACTS_FILE).is_file()


def read_facts(directory: Path) -> PredictorFacts:
    """Read what the latent predictor of a run is.

    Raises:
        ValueError: The run has none, it is not whole, or another version wrote it.
    """
    folder = directory / FOLDER
    if not has_latent_predictor(directory):
        raise ValueError(
            f"The run has no latent predictor: `{folder}` is not there. Train with `jepa_objective: pair`, or with "
            "another objective that predicts; `llm-jepa train` writes it beside the model."
        )
    content = read_json(folder / FACTS_FILE)
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"`{folder / FACTS_FILE}` is of another format than {FORMAT}. Use the version that wrote it.")
    digest = content.pop("weights_sha256", None)
    if not (folder / WEIGHTS_FILE).is_file() or sha256_of(folder / WEIGHTS_FILE) != digest:
        raise ValueError(f"`{folder / WEIGHTS_FILE}` is missing or not what training wrote. Copy the folder again.")
    try:
        return PredictorFacts(**content | {"objectives": tuple(content["objectives"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"`{folder / FACTS_FILE}` lacks facts ({error}). Copy the folder again.") from error


def read_weights(directory: Path) -> "dict[str, Tensor]":
    """The predictor's weights on the CPU; none for an objective without a module of its own."""
    from safetensors.torch import load_file

    return load_file(directory / FOLDER / WEIGHTS_FILE)


def predictor_digest(directory: Path) -> str:
    """SHA-256 of what changes an embedding: weights, options and form of prompts. Raises as `read_facts` does."""
    facts = read_facts(directory)
    weights = sha256_of(directory / FOLDER / WEIGHTS_FILE)
    content: list[Any] = [facts.objectives, facts.options, facts.tokenizer, weights]
    if facts.has_plain_prompts:
        content.append("plain prompts")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_fits(facts: PredictorFacts, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Check that a predictor was trained beside a model of this width, with this tokenizer.

    Raises:
        ValueError: It was not.
    """
    width = model.config.get_text_config().hidden_size
    if facts.width != width:
        raise ValueError(
            f"The latent predictor is for a model of width {facts.width}; this one has {width}. Use the predictor of "
            "the same run."
        )
    if facts.tokenizer != tokenizer_digest(tokenizer):
        raise ValueError(
            "The latent predictor was trained with another tokenizer or chat template. Use those of its run."
        )


def has_views(facts: PredictorFacts) -> bool:
    """Whether a predictor was trained on views, so that texts can be encoded as such."""
    return {*VIEW_OPTIONS} <= facts.options.keys()


def check_has_views(facts: PredictorFacts) -> None:
    """Check that a predictor was trained on views.

    Raises:
        ValueError: It was not.
    """
    if not has_views(facts):
        raise ValueError(
            f"The latent predictor is of {', '.join(facts.objectives)}, which encodes no views. To rank answers, "
            "train with `jepa_objective: pair`."
        )


def check_drafts(facts: PredictorFacts) -> None:
    """Check that a predictor can draft tokens.

    Raises:
        ValueError: It cannot.
    """
    if "next_latent" not in facts.objectives:
        raise ValueError(
            f"The latent predictor is of {', '.join(facts.objectives)}, which drafts no tokens. Train with "
            "`jepa_objective: next_latent`, or use `--decoding plain`."
        )


def remove_latent_predictor(directory: Path) -> None:
    """Remove the latent predictor beside a model that is written anew."""
    (directory / FOLDER / FACTS_FILE).unlink(missing_ok=True)
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def copy_latent_predictor(directory: Path, to: Path) -> None:
    """Copy the latent predictor of a run, if there is one, beside a copy of its model."""
    if has_latent_predictor(directory):
        shutil.copytree(directory / FOLDER, to / FOLDER, ignore=shutil.ignore_patterns("*.partial"))
