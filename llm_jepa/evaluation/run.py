"""Evaluates the base and the tuned checkpoint of a recipe on the same held-out rows."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from llm_jepa.evaluation.generation import Completion, generate_completions
from llm_jepa.evaluation.golds import check_golds, refuse_if_none_is_left
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.evaluation.likelihood import choice_likelihoods
from llm_jepa.evaluation.prediction_log import PredictionLog, log_path, weights_identity
from llm_jepa.evaluation.results import CheckpointResult, Prediction
from llm_jepa.evaluation.vllm import check_vllm, load_vllm_checkpoints
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.checkpoint_choice import Checkpoint
from llm_jepa.recipe import Recipe
from llm_jepa.runs.record import SCORING_KEYS
from llm_jepa.scoring.choice import ChoiceLikelihoods
from llm_jepa.scoring.extraction import Extract
from llm_jepa.scoring.gold import GoldProblem
from llm_jepa.scoring.tasks import RowScores, Task, rates, score_row

logger = logging.getLogger(__name__)

Backend = Literal["transformers", "vllm"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


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
        directory: Where to log completions and likelihoods, so that an interrupted evaluation can resume; None logs
            none. Call `discard_log` when a result is stored elsewhere.
        backend: The library that generates. vLLM rounds differently from transformers, so compare results of one
            backend only.
        vllm_options: For `vllm.LLM`, such as `tensor_parallel_size`.

    Raises:
        ValueError: vLLM is not installed or does not support the recipe, `vllm_options` have no effect, or the task
            can score by no gold. All this is known before a model is loaded.
    """
    if vllm_options is not None and backend != "vllm":
        raise ValueError(
            f"`vllm_options` have an effect only with the backend 'vllm'; it is {backend!r}. Leave them out."
        )
    models: Iterator[tuple[Checkpoint, str, Any]] = load_checkpoints(recipe, checkpoints, len(tokenizer))
    if backend == "vllm":
        check_vllm(recipe, checkpoints)
        models = load_vllm_checkpoints(recipe, checkpoints, vllm_options or {})
    task, extract = recipe.training.task, recipe.training.extract
    limits = max_new_tokens, batch_size, backend, vllm_options
    gold_problems = check_golds(task, rows, extract)
    for checkpoint, location, model in models:
        log = None
        if directory is not None:
            identity = _identity(recipe, location, rows, limits)
            log = PredictionLog(log_path(directory, checkpoint), identity)

        def advance(number: int, checkpoint: Checkpoint = checkpoint) -> None:
            if progress is not None:
                progress(checkpoint, number)

        predictions = predict(task, model, tokenizer, rows, max_new_tokens, batch_size, log, advance)
        del model  # free its memory before the next one is loaded
        scored = score(task, predictions, rows, gold_problems, extract)
        refuse_if_none_is_left(task, rows, [one.gold_problem for one in scored])
        yield CheckpointResult(checkpoint, location, predictions, scored, rates(scored))


def predict(
    task: Task,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    max_new_tokens: int,
    batch_size: int,
    log: PredictionLog | None = None,
    advance: Callable[[int], None] = lambda number: None,
) -> list[Prediction]:
    """What a loaded model generates for the rows, and for `choice` the likelihoods of their choices.

    Args:
        log: Has what is finished, and gets the rest; None stores nothing.
        advance: Called after each batch with its number of rows.
    """
    completions = _completions(model, tokenizer, rows, max_new_tokens, batch_size, log, advance)
    likelihoods: Sequence[ChoiceLikelihoods | None] = [None] * len(rows)
    if task == "choice":
        likelihoods = _likelihoods(model, tokenizer, rows, batch_size, log)
    return [
        Prediction(row.row_index, row.source, row.gold, completion.text, completion.stopped, likelihood)
        for row, completion, likelihood in zip(rows, completions, likelihoods, strict=True)
    ]


def score(
    task: Task,
    predictions: Sequence[Prediction],
    rows: Sequence[HeldOutRow],
    gold_problems: Sequence[GoldProblem | None],
    extract: Extract = "none",
) -> list[RowScores]:
    """Score every prediction. Logs those that cannot be scored: they count as wrong, or are left out for their gold.

    `gold_problems` are what `check_golds` found.
    """
    scored = []
    for prediction, row, known in zip(predictions, rows, gold_problems, strict=True):
        written = prediction.prediction, prediction.gold, prediction.stopped
        scores = score_row(task, *written, row.database, prediction.likelihoods, known, extract, row.source)
        if scores.problem is not None:
            logger.info("Row %d counts as wrong: %s", row.row_index, scores.problem)
        if scores.gold_problem is not None and known is None:
            logger.warning("Row %d is left out: %s", row.row_index, scores.gold_problem.detail)
        scored.append(scores)
    return scored


def _completions(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    max_new_tokens: int,
    batch_size: int,
    log: PredictionLog | None,
    advance: Callable[[int], None],
) -> list[Completion]:
    """The completions of a checkpoint, the logged ones first."""
    finished = {} if log is None else log.completions
    advance(len(finished))

    def store(completions: Mapping[int, Completion]) -> None:
        if log is not None:
            log.append_completions(completions)
        advance(len(completions))

    prompts, template_kwargs = [row.prompt for row in rows], [row.template_kwargs for row in rows]
    return generate_completions(
        model, tokenizer, prompts, max_new_tokens, batch_size, store, template_kwargs, finished
    )


def _likelihoods(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[HeldOutRow],
    batch_size: int,
    log: PredictionLog | None,
) -> list[ChoiceLikelihoods]:
    """The likelihoods of every row's choices, without those that are logged."""
    prompts, choices = [row.prompt for row in rows], [row.choices for row in rows]
    template_kwargs = [row.template_kwargs for row in rows]
    finished, store = (None, None) if log is None else (log.log_probs, log.append_log_probs)
    return choice_likelihoods(model, tokenizer, prompts, choices, batch_size, store, template_kwargs, finished)


def _identity(recipe: Recipe, location: str, rows: Sequence[HeldOutRow], limits: tuple[Any, ...]) -> dict[str, Any]:
    """What a checkpoint's completions and likelihoods depend on."""
    return {
        "settings": {key: value for key, value in recipe.settings.items() if key not in SCORING_KEYS},
        "location": location,
        "weights": weights_identity(location),
        "prompts": [(row.prompt, row.template_kwargs, row.choices) for row in rows],
        "limits": limits,
    }
