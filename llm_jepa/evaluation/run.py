"""Evaluates the base and the tuned checkpoint of a recipe on the same held-out rows."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import ColumnMapping, is_tokenised, to_rows
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.evaluation.generation import Completion, Prompt, generate_completions
from llm_jepa.evaluation.likelihood import choice_likelihoods
from llm_jepa.evaluation.prediction_log import PredictionLog, weights_identity
from llm_jepa.evaluation.vllm import check_vllm, load_vllm_checkpoints
from llm_jepa.files.atomic import write_atomically
from llm_jepa.models.base_and_tuned import Checkpoint, load_checkpoints
from llm_jepa.models.loading import load_tokenizer
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import SCORES_FILES
from llm_jepa.scoring.choice import ChoiceLikelihoods
from llm_jepa.scoring.tasks import Rate, RowScores, Task, rates, score_row

logger = logging.getLogger(__name__)

Backend = Literal["transformers", "vllm"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


@dataclass(frozen=True)
class HeldOutRow:
    """One row to evaluate.

    Attributes:
        template_kwargs: Further arguments of the chat template.
        database: The row's SQLite file, for `task: sql`.
        choices: The texts to choose from, for `task: choice`.
    """

    prompt: Prompt
    template_kwargs: dict[str, Any]
    source: str
    gold: str
    database: Path | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """The text that one checkpoint generated for one row, and the likelihoods of the row's choices, if any."""

    source: str
    gold: str
    prediction: str
    stopped: bool
    likelihoods: ChoiceLikelihoods | None = None


@dataclass(frozen=True)
class CheckpointResult:
    """Predictions and scores of one checkpoint.

    Attributes:
        location: The directory or Hub id of its weights.
        rows: The scores of each prediction.
        scores: Score -> its rate over the rows.
    """

    checkpoint: Checkpoint
    location: str
    predictions: list[Prediction]
    rows: list[RowScores]
    scores: dict[str, Rate]


def load_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, max_rows: int | None = None) -> list[HeldOutRow]:
    """The first `max_rows` (default: all) rows of the recipe's `dataset_test_split`.

    Raises:
        ValueError: `max_rows` is below 1, or the rows cannot be loaded or have no texts to score.
    """
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` is {max_rows}; it must be at least 1.")
    dataset = load_split(recipe.script, recipe.script.dataset_test_split)
    if is_tokenised(dataset):
        raise ValueError(
            "Pre-tokenised rows cannot be evaluated: their gold answers are not texts. Name a data set of texts."
        )
    mapping = ColumnMapping.from_args(recipe.training)
    dataset = expand_rows(dataset, mapping, keeps_columns=True)
    if max_rows is not None:
        dataset = dataset.take(max_rows)
    rows: Iterable[dict[str, Any]] = to_rows(dataset, mapping, tokenizer.chat_template is not None)
    return [
        HeldOutRow(
            prompt=row["prompt"],
            template_kwargs=_template_kwargs(row),
            source=row["source"],
            gold=row["target"],
            database=_database(recipe.training.database_path, original),
            choices=_choices(recipe.training.choices_column, original, row),
        )
        for row, original in zip(rows, dataset, strict=True)
    ]


def load_run_tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    """The tokenizer that the run saved, or would save, beside its weights. Base and tuned model share it."""
    args = recipe.training
    if (recipe.output_dir / "tokenizer_config.json").is_file():
        return load_tokenizer(str(recipe.output_dir), None, args.trust_remote_code)
    tokenizer = load_tokenizer(
        recipe.settings["model_name_or_path"], recipe.model.model_revision, args.trust_remote_code
    )
    if args.eos_token is not None:
        tokenizer.eos_token = args.eos_token
    template = args.chat_template_path
    if template is not None and Path(template).is_file():
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    elif template is not None:
        _copy_template(tokenizer, load_tokenizer(template))
    return tokenizer


def _copy_template(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> None:
    """Copy another tokenizer's template, stop token and added tokens, as TRL does."""
    tokenizer.chat_template = other.get_chat_template()
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([token for token in other.added_tokens_decoder.values() if token.content not in known])
    tokenizer.eos_token = other.eos_token


def evaluate(
    recipe: Recipe,
    checkpoints: Sequence[Checkpoint],
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[Checkpoint, int], None] | None = None,
    directory: Path | None = None,
    backend: Backend = "transformers",
    vllm_options: Mapping[str, Any] | None = None,
) -> Iterator[CheckpointResult]:
    """Evaluate the checkpoints one after the other, and yield each result as soon as it is complete.

    The weights have the precision of training: bf16 or fp16 if the recipe sets it, else `dtype`. Quantised models stay
    quantised. An adapter is not merged: rounding its sum with the base to 16 bits would change the trained model.

    Parameters:
        max_new_tokens, batch_size: As for `generate_completions`.
        progress: Called after each batch with the checkpoint and its number of newly finished rows.
        directory: Where to store completions, so that an interrupted evaluation can resume; None stores none.
        backend: The library that generates. vLLM rounds differently from transformers, so compare results of one
            backend only.
        vllm_options: For `vllm.LLM`, such as `tensor_parallel_size`.

    Raises:
        ValueError: vLLM is not installed or does not support the recipe, or `vllm_options` have no effect.
    """
    if vllm_options is not None and backend != "vllm":
        raise ValueError(
            f"`vllm_options` have an effect only with the backend 'vllm'; it is {backend!r}. Leave them out."
        )
    models: Iterator[tuple[Checkpoint, str, Any]] = load_checkpoints(recipe, checkpoints, len(tokenizer))
    if backend == "vllm":
        check_vllm(recipe, checkpoints)
        models = load_vllm_checkpoints(recipe, checkpoints, vllm_options or {})
    for checkpoint, location, model in models:
        log = _log(recipe, checkpoint, location, rows, (max_new_tokens, batch_size, backend, vllm_options), directory)
        finished = {} if log is None else log.finished
        if progress is not None:
            progress(checkpoint, len(finished))
        completions = generate_completions(
            model,
            tokenizer,
            [row.prompt for row in rows],
            max_new_tokens,
            batch_size,
            progress=partial(_advance, checkpoint, log, progress),
            template_kwargs=[row.template_kwargs for row in rows],
            finished=finished,
        )
        likelihoods = _likelihoods(recipe.training.task, model, tokenizer, rows, batch_size)
        del model  # free its memory before the next one is loaded
        if log is not None:
            log.remove()
        predictions = [_prediction(*one) for one in zip(rows, completions, likelihoods, strict=True)]
        scored = score(recipe.training.task, predictions, rows)
        yield CheckpointResult(checkpoint, location, predictions, scored, rates(scored))


def _prediction(row: HeldOutRow, completion: Completion, likelihood: ChoiceLikelihoods | None) -> Prediction:
    return Prediction(row.source, row.gold, completion.text, completion.stopped, likelihood)


def _likelihoods(
    task: Task,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    batch_size: int,
) -> Sequence[ChoiceLikelihoods | None]:
    if task != "choice":
        return [None] * len(rows)
    prompts, choices = [row.prompt for row in rows], [row.choices for row in rows]
    template_kwargs = [row.template_kwargs for row in rows]
    return choice_likelihoods(model, tokenizer, prompts, choices, batch_size, template_kwargs=template_kwargs)


def _log(
    recipe: Recipe,
    checkpoint: Checkpoint,
    location: str,
    rows: Sequence[HeldOutRow],
    limits: tuple[Any, ...],
    directory: Path | None,
) -> PredictionLog | None:
    if directory is None:
        return None
    identity = {
        "settings": recipe.settings,
        "location": location,
        "weights": weights_identity(location),
        "prompts": [(row.prompt, row.template_kwargs) for row in rows],
        "limits": limits,
    }
    return PredictionLog(directory / f"predictions-{checkpoint}.partial.jsonl", identity)


def _advance(
    checkpoint: Checkpoint,
    log: PredictionLog | None,
    progress: Callable[[Checkpoint, int], None] | None,
    completions: Mapping[int, Completion],
) -> None:
    if log is not None:
        log.append(completions)
    if progress is not None:
        progress(checkpoint, len(completions))


def score(task: Task, predictions: Sequence[Prediction], rows: Sequence[HeldOutRow]) -> list[RowScores]:
    """Score every prediction. A row that cannot be scored counts as wrong and is logged."""
    scored = []
    for index, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
        written = prediction.prediction, prediction.gold, prediction.stopped
        scores = score_row(task, *written, row.database, prediction.likelihoods)
        if scores.problem is not None:
            logger.info("Row %d counts as wrong: %s", index, scores.problem)
        scored.append(scores)
    return scored


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write a JSON line per row: `source`, `gold`, `prediction`, `stopped`, and `likelihoods` if it has choices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in predictions:
            content = {name: value for name, value in asdict(row).items() if value is not None}
            file.write(json.dumps(content, ensure_ascii=False) + "\n")


def write_scores(
    result: CheckpointResult, recipe: Recipe, max_new_tokens: int, backend: Backend, directory: Path
) -> None:
    """Write `scores-base.json` or `scores-tuned.json`: hits and count of every score, and the data and limits used."""
    content = {
        "checkpoint": result.checkpoint,
        "task": recipe.training.task,
        "dataset": recipe.script.dataset_name,
        "dataset_config": recipe.script.dataset_config,
        "split": recipe.script.dataset_test_split,
        "rows": len(result.rows),
        "max_new_tokens": max_new_tokens,
        "backend": backend,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {name: asdict(rate) for name, rate in result.scores.items()},
    }
    write_atomically(json.dumps(content, indent=1) + "\n", directory / SCORES_FILES[result.checkpoint])


def _template_kwargs(row: dict[str, Any]) -> dict[str, Any]:
    """The arguments that TRL's `SFTTrainer` passes to a row's chat template, beside the messages."""
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
            f"`database_path: {template}` cannot be filled from the columns {list(row)}: {error!r}. Write the "
            "names of columns in braces."
        ) from error


def _choices(column: str | None, original: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    if column is None:
        return ()
    choices = original.get(column)
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise ValueError(
            f"Row {row['row_index']}: `choices_column: {column}` holds {choices!r:.80}; the columns are "
            f"{list(original)}. Name one with a list of texts, none of them empty."
        )
    if row["target"] not in choices:
        raise ValueError(f"Row {row['row_index']}: the target {row['target']!r} is not one of the choices {choices}.")
    return tuple(choices)
