"""Evaluates the base and the tuned model of a recipe on the same held-out rows."""

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
    """One row to generate for; `template_kwargs` are what else the chat template gets of it, `choices` and `database`
    what its task scores with.
    """

    prompt: Prompt
    template_kwargs: dict[str, Any]
    source: str
    gold: str
    database: Path | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What one checkpoint wrote for one row, and what it thinks of the row's choices, if there are any."""

    source: str
    gold: str
    prediction: str
    stopped: bool
    likelihoods: ChoiceLikelihoods | None = None


@dataclass(frozen=True)
class CheckpointResult:
    """Predictions and scores of one checkpoint; `location` is the directory or Hub id that its weights come from.

    `rows` are the scores of each prediction, `scores` their rates.
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
        raise ValueError("Pre-tokenised rows cannot be evaluated, since their gold answers are no texts.")
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
        _take_template(tokenizer, load_tokenizer(template))
    return tokenizer


def _take_template(tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> None:
    """The template of another tokenizer, with its stop token and the tokens that it adds, as TRL takes them over."""
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
    """Evaluate one checkpoint after the other; each result is given as soon as it is there.

    The weights are of the precision that training computed in: bf16 or fp16 where the recipe says so, else
    `dtype`. Quantised models stay quantised. An adapter is not merged: rounding its sum with the base to 16 bits
    would be another model than the one that was trained.

    Parameters:
        max_new_tokens, batch_size: As for `generate_completions`.
        progress: Called after each batch with the checkpoint and the number of rows that it finished.
        directory: Where what is generated is kept meanwhile, to go on from there after an interruption.
        backend: What generates. vLLM's kernels round otherwise than transformers', so take one for all that is to be
            compared.
        vllm_options: For `vllm.LLM`, such as `tensor_parallel_size`.

    Raises:
        ValueError: vLLM is not installed, does not take what the recipe asks for, or its options are idle.
    """
    if vllm_options is not None and backend != "vllm":
        raise ValueError(f"`vllm_options` have no effect with the backend {backend!r}; only with 'vllm'.")
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
        del model  # so that the next one does not come on top of it
        if log is not None:
            log.remove()
        predictions = [
            Prediction(row.source, row.gold, completion.text, completion.stopped, likelihood)
            for row, completion, likelihood in zip(rows, completions, likelihoods, strict=True)
        ]
        scored = score(recipe.training.task, predictions, rows)
        yield CheckpointResult(checkpoint, location, predictions, scored, rates(scored))


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
    """The scores of every prediction. A row that cannot be scored is wrong, and named in the log."""
    scored = []
    for index, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
        written = prediction.prediction, prediction.gold, prediction.stopped
        scores = score_row(task, *written, row.database, prediction.likelihoods)
        if scores.problem is not None:
            logger.info("Row %d counts as wrong: %s", index, scores.problem)
        scored.append(scores)
    return scored


def write_predictions(predictions: Sequence[Prediction], path: Path) -> None:
    """Write one JSON object a line: `source`, `gold`, `prediction`, `stopped`, and of a choice `likelihoods`."""
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
        raise ValueError(f"Row {row['row_index']}: the target {row['target']!r} is none of the choices {choices}.")
    return tuple(choices)
