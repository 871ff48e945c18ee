"""Evaluates the base and the tuned model of a recipe on the same held-out rows."""

import gc
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import PeftModel
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME as MODEL_CONFIG
from trl import get_quantization_config

from llm_jepa.generation import Completion, Prompt, generate_completions
from llm_jepa.loading import load_split
from llm_jepa.modeling import load_tokenizer, resolve_model
from llm_jepa.prediction_log import PredictionLog, weights_identity
from llm_jepa.recipe import Recipe, read_settings
from llm_jepa.rows import ColumnMapping, is_tokenised, to_rows
from llm_jepa.scoring.tasks import Rate, RowScores, Task, rates, score_row
from llm_jepa.train import RECIPE_FILE

logger = logging.getLogger(__name__)

Arm = Literal["base", "tuned"]
ARMS: tuple[Arm, ...] = get_args(Arm)


@dataclass(frozen=True)
class HeldOutRow:
    """One row to generate for; `template_kwargs` are what else the chat template gets of it."""

    prompt: Prompt
    template_kwargs: dict[str, Any]
    source: str
    gold: str
    database: Path | None = None


@dataclass(frozen=True)
class Prediction:
    """What one arm wrote for one row."""

    source: str
    gold: str
    prediction: str
    stopped: bool


@dataclass(frozen=True)
class ArmResult:
    """Predictions and scores of one arm; `location` is the directory or Hub id that its weights come from.

    `rows` are the scores of each prediction, `scores` their rates.
    """

    arm: Arm
    location: str
    predictions: list[Prediction]
    rows: list[RowScores]
    scores: dict[str, Rate]


def choose_arms(recipe: Recipe, wanted: Sequence[str] | None = None) -> list[Arm]:
    """The arms to evaluate, base first: those wanted, else all that the recipe has.

    Raises:
        ValueError: An arm is unknown or asked for twice, a run from scratch has no base model, or nothing was
            trained yet.
    """
    has_base = not recipe.training.from_scratch
    if wanted is None:
        wanted = ARMS if has_base else ["tuned"]
    arms = [arm for arm in ARMS if arm in wanted]
    if sorted(arms) != sorted(wanted):
        raise ValueError(f"Arms {','.join(wanted)!r}; allowed are {', '.join(ARMS)}, each once.")
    if "base" in arms and not has_base:
        raise ValueError("`from_scratch: true` starts from random weights: there is no base. Take the arm `tuned`.")
    if "tuned" in arms:
        _check_run(recipe)
    return arms


def load_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None) -> list[HeldOutRow]:
    """The first `max_rows` (default: all) rows of the recipe's `dataset_test_split`.

    Raises:
        ValueError: `max_rows` is below 1, or the rows cannot be loaded or have no texts to score.
    """
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` is {max_rows}; it must be at least 1.")
    dataset = load_split(recipe.script, recipe.script.dataset_test_split)
    if is_tokenised(dataset):
        raise ValueError("Pre-tokenised rows cannot be evaluated, since their gold answers are no texts.")
    if max_rows is not None:
        dataset = dataset.take(max_rows)
    mapping = ColumnMapping.from_args(recipe.training)
    rows: Iterable[dict[str, Any]] = to_rows(dataset, mapping, tokenizer.chat_template is not None)
    return [
        HeldOutRow(
            prompt=row["prompt"],
            template_kwargs=_template_kwargs(row),
            source=row["source"],
            gold=row["target"],
            database=_database(recipe.training.database_path, original),
        )
        for row, original in zip(rows, dataset, strict=True)
    ]


def load_run_tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """The tokenizer that the run saved beside its weights, else that of the base model. Both arms are given it."""
    saved = (recipe.output_dir / "tokenizer_config.json").is_file()
    name = str(recipe.output_dir) if saved else recipe.settings["model_name_or_path"]
    revision = None if saved else recipe.model.model_revision
    return load_tokenizer(name, revision, recipe.training.trust_remote_code)


def evaluate(
    recipe: Recipe,
    arms: Sequence[Arm],
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[Arm, int], None] | None = None,
    directory: Path | None = None,
) -> Iterator[ArmResult]:
    """Evaluate one arm after the other; each result is given as soon as it is there.

    The weights are of the precision that training computed in: bf16 or fp16 where the recipe says so, else
    `dtype`. Quantised models stay quantised. An adapter is not merged: rounding its sum with the base to 16 bits
    would be another model than the one that was trained.

    Parameters:
        max_new_tokens, batch_size: As for `generate_completions`.
        progress: Called after each batch with the arm and the number of rows that it finished.
        directory: Where what is generated is kept meanwhile, to go on from there after an interruption.
    """
    for arm, location, model in load_arms(recipe, arms):
        log = _log(recipe, arm, location, rows, max_new_tokens, batch_size, directory)
        finished = {} if log is None else log.finished
        if progress is not None:
            progress(arm, len(finished))
        completions = generate_completions(
            model,
            tokenizer,
            [row.prompt for row in rows],
            max_new_tokens,
            batch_size,
            progress=partial(_advance, arm, log, progress),
            template_kwargs=[row.template_kwargs for row in rows],
            finished=finished,
        )
        del model  # so that the next one does not come on top of it
        if log is not None:
            log.remove()
        predictions = [
            Prediction(row.source, row.gold, completion.text, completion.stopped)
            for row, completion in zip(rows, completions, strict=True)
        ]
        scored = score(recipe.training.task, predictions, rows)
        yield ArmResult(arm, location, predictions, scored, rates(scored))


def _log(
    recipe: Recipe,
    arm: Arm,
    location: str,
    rows: Sequence[HeldOutRow],
    max_new_tokens: int,
    batch_size: int,
    directory: Path | None,
) -> PredictionLog | None:
    if directory is None:
        return None
    identity = {
        "settings": recipe.settings,
        "location": location,
        "weights": weights_identity(location),
        "prompts": [(row.prompt, row.template_kwargs) for row in rows],
        "limits": (max_new_tokens, batch_size),
    }
    return PredictionLog(directory / f"predictions-{arm}.partial.jsonl", identity)


def _advance(
    arm: Arm,
    log: PredictionLog | None,
    progress: Callable[[Arm, int], None] | None,
    completions: Mapping[int, Completion],
) -> None:
    if log is not None:
        log.append(completions)
    if progress is not None:
        progress(arm, len(completions))


def load_arms(recipe: Recipe, arms: Sequence[Arm]) -> Iterator[tuple[Arm, str, PreTrainedModel | PeftModel]]:
    """Load the models, one at a time. The base's weights are read once if the tuned model is an adapter on them."""
    base_location = resolve_model(recipe.settings["model_name_or_path"], recipe.model.model_revision)
    output_dir = str(recipe.output_dir)
    adapter = "tuned" in arms and _is_adapter(recipe.output_dir)
    base = None
    if "base" in arms or adapter:
        base = _load_weights(recipe, base_location)
    if base is not None and "base" in arms:
        yield "base", base_location, base
    if base is not None and adapter:
        yield "tuned", output_dir, PeftModel.from_pretrained(base, output_dir)
    elif "tuned" in arms:
        del base
        gc.collect()
        yield "tuned", output_dir, _load_weights(recipe, output_dir)


def score(task: Task, predictions: Sequence[Prediction], rows: Sequence[HeldOutRow]) -> list[RowScores]:
    """The scores of every prediction. A row that cannot be scored is wrong, and named in the log."""
    scored = []
    for index, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
        scores = score_row(task, prediction.prediction, prediction.gold, prediction.stopped, row.database)
        if scores.problem is not None:
            logger.info("Row %d counts as wrong: %s", index, scores.problem)
        scored.append(scores)
    return scored


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write one JSON object a line: `source`, `gold`, `prediction`, `stopped`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in predictions)


def _template_kwargs(row: dict[str, Any]) -> dict[str, Any]:
    """What TRL's `SFTTrainer` gives to the chat template of a row, beside its messages."""
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    return {"tools": tools, **(row.get("chat_template_kwargs") or {})}


def _database(template: str | None, row: dict[str, Any]) -> Path | None:
    if template is None:
        return None
    try:
        return Path(template.format_map(row)).expanduser()
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"`database_path: {template}` cannot be filled from the columns {list(row)}: {error!r}. Write columns in "
            "braces."
        ) from error


def _is_adapter(directory: Path) -> bool:
    return (directory / ADAPTER_CONFIG).is_file()


def _check_run(recipe: Recipe) -> None:
    """Raise unless the output directory holds what a run of this recipe's model saved at its end."""
    directory = recipe.output_dir
    if not (_is_adapter(directory) or (directory / MODEL_CONFIG).is_file()):
        raise ValueError(
            f"`output_dir: {directory}` holds no trained model or adapter. Train first (llm-jepa train "
            f"{recipe.path}), or evaluate the base model alone, with the arm `base`."
        )
    if (directory / RECIPE_FILE).is_file():
        trained = read_settings(directory / RECIPE_FILE)["model_name_or_path"]
        given = recipe.settings["model_name_or_path"]
        if trained != given:
            raise ValueError(
                f"`output_dir: {directory}` was trained from {trained!r}; `model_name_or_path` is {given!r}. Give the "
                "settings of the run."
            )


def _load_weights(recipe: Recipe, location: str) -> PreTrainedModel:
    model, training = recipe.model, recipe.training
    kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "quantization_config": get_quantization_config(model),
        "device_map": {"": training.device},
    }
    kwargs |= recipe.settings.get("model_init_kwargs") or {}
    kwargs["dtype"] = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else model.dtype
    return AutoModelForCausalLM.from_pretrained(location, **kwargs)
