"""Scores of a VL-JEPA run: answers chosen by their embedding, and retrieval both ways. All ranks are strict.

Legend: N rows, M answers, E the shared space's width.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from llm_jepa.evaluation.held_out_rows import sample_indices
from llm_jepa.inference.answer_index import AnswerIndex
from llm_jepa.inference.candidates import check_answers
from llm_jepa.inference.ranking import pessimistic_ranks, unit_rows
from llm_jepa.scoring.tasks import Rate
from llm_jepa.vision.building import load_rows, picture_directory
from llm_jepa.vision.collator import VisionCollator
from llm_jepa.vision.feature_cache import FeatureCache, with_cached_features
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.processor import VLJEPAProcessor
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.retrieval import answer_ranks, image_ranks, retrieval_scores
from llm_jepa.vision.rows import KIND_COLUMN, answer_key, prepare_rows

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class VisionPrediction:
    """The answer that was chosen for a row, and the strict rank of the right one among `num_candidates`.

    `kind` is the row's kind of question, where the data set has them.
    """

    row_index: int
    question: str | None
    gold: str
    prediction: str
    cosine: float
    rank: int
    num_candidates: int
    kind: str | None = None


@dataclass(frozen=True)
class HeldOutQuestions:
    """Held-out rows as the collator reads them.

    Attributes:
        indices: The number of each row in its split.
        kinds: The kind of question of each row, where the data set has them.
        labels: What to choose from; None for a row's own candidates or all answers.
    """

    rows: Dataset
    indices: Sequence[int]
    kinds: Sequence[str | None]
    collator: VisionCollator
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class VisionResult:
    """What an evaluation finds.

    Attributes:
        scores: `accuracy`; and, of the same rows, `most_frequent`, what the split's most frequent answer scores.
        chance: Accuracy of a random choice.
        image_to_answer, answer_to_image: Recall at 1, 5 and 10, and the mean reciprocal rank.
    """

    predictions: list[VisionPrediction]
    scores: dict[str, Rate]
    chance: float
    image_to_answer: dict[str, float]
    answer_to_image: dict[str, float]


def evaluate_vision(
    recipe: VisionRecipe,
    labels: Sequence[str] | None = None,
    max_rows: int | None = None,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda number: None,
) -> VisionResult:
    """Evaluate a run on its `dataset_test_split`.

    Args:
        labels: What to choose from; else a row's own candidates or, without those, all answers of the rows.
        max_rows: So many rows, a sample that is always the same.
        progress: Called with the number of rows after each batch.

    Raises:
        ValueError: The run or the data cannot be loaded, rows are wrong, or an answer is not among the labels.
    """
    args = recipe.training
    model = VLJEPAModel.from_pretrained(recipe.output_dir).to(args.device).eval()
    held_out = load_held_out(recipe, model.processor, labels, max_rows)
    return evaluate_model(model, with_features(held_out, recipe, model), batch_size, progress)


def load_held_out(
    recipe: VisionRecipe,
    processor: VLJEPAProcessor,
    labels: Sequence[str] | None = None,
    max_rows: int | None = None,
) -> HeldOutQuestions:
    """The rows of a recipe's `dataset_test_split`, checked. Arguments and errors are those of `evaluate_vision`."""
    args, directory = recipe.training, picture_directory(recipe.source.dataset_name)
    rows = load_rows(recipe, args.dataset_test_split)
    indices = sample_indices(len(rows), max_rows) if max_rows is not None else list(range(len(rows)))
    rows = rows.select(indices)
    kinds = [str(kind) for kind in rows[KIND_COLUMN]] if KIND_COLUMN in rows.column_names else [None] * len(rows)
    prepared = prepare_rows(rows, args, processor, "held-out", directory)
    if labels is not None:
        _check_labels(labels, _answers(prepared))
    return HeldOutQuestions(prepared, indices, kinds, VisionCollator(processor, args, None, directory), labels)


def with_features(held_out: HeldOutQuestions, recipe: VisionRecipe, model: VLJEPAModel) -> HeldOutQuestions:
    """The same rows with features of the recipe's cache in the place of pictures, if it has one."""
    if recipe.training.feature_cache is None:
        return held_out
    collator, encoder = held_out.collator, model.vision_encoder
    cache = FeatureCache(recipe.training.feature_cache, encoder, collator.processor)
    rows = with_cached_features(held_out.rows, cache, encoder, collator.processor, collator.directory)
    return replace(held_out, rows=rows, collator=replace(collator, cache=cache))


def evaluate_model(
    model: VLJEPAModel,
    held_out: HeldOutQuestions,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda number: None,
) -> VisionResult:
    """Evaluate a model in evaluation mode. Arguments are those of `evaluate_vision`."""
    rows, labels = held_out.rows, held_out.labels
    answers = _answers(rows)
    prediction_NE = embed_rows(model, rows, held_out.collator, batch_size, progress)
    texts = list(dict.fromkeys([*answers, *(labels or ()), *_own_candidates(rows)]))
    embedding_of = dict(zip(texts, unit_rows(model.encode_text(texts, batch_size).numpy()), strict=True))
    if labels is None and "candidates" in rows.column_names:
        chosen = choose_among_own(rows, prediction_NE, embedding_of)
    else:
        candidates = list(labels or answers)
        embedding_ME = np.stack([embedding_of[text] for text in candidates])
        chosen = choose_among_all(rows, prediction_NE, candidates, embedding_ME)
    predictions = [
        VisionPrediction(index, row.get("question"), row["answer"].strip(), *found, kind)
        for index, row, found, kind in zip(held_out.indices, rows, chosen, held_out.kinds, strict=True)
    ]
    key_N = np.array([answer_key(answer) for answer in rows["answer"]])
    target_NE = np.stack([embedding_of[answer.strip()] for answer in rows["answer"]])
    frequency = Counter(answer.strip() for answer in rows["answer"]).most_common(1)[0][1]
    return VisionResult(
        predictions,
        {
            "accuracy": Rate(sum(one.rank == 1 for one in predictions), len(predictions)),
            "most_frequent": Rate(frequency, len(predictions)),
        },
        float(np.mean([1 / one.num_candidates for one in predictions])),
        retrieval_scores(answer_ranks(prediction_NE, target_NE, key_N)),
        retrieval_scores(image_ranks(prediction_NE, target_NE, key_N)),
    )


def embed_rows(
    model: VLJEPAModel,
    rows: Dataset,
    collator: VisionCollator,
    batch_size: int,
    progress: Callable[[int], None] = lambda number: None,
) -> NDArray:
    """prediction_NE of prepared rows."""
    parts = []
    for start in range(0, len(rows), batch_size):
        batch = collator([*rows.select(range(start, min(start + batch_size, len(rows))))])
        inputs: dict[str, Any] = {
            name: value.to(model.device) for name, value in batch.items() if not name.startswith("answer")
        }
        with torch.no_grad():
            parts.append(model(**inputs).prediction_NE.float().cpu().numpy())
        progress(len(batch["row_index"]))
    return np.concatenate(parts)


def choose_among_all(
    rows: Dataset, prediction_NE: NDArray, answers: Sequence[str], embedding_ME: NDArray
) -> list[tuple[str, float, int, int]]:
    """Of each row the nearest of all answers, its cosine, the strict rank of the right one, and how many there are."""
    hits = AnswerIndex(answers, embedding_ME, checkpoint="", predictor="").search(prediction_NE, k=1)
    place = {answer: i for i, answer in enumerate(answers)}
    gold_N = np.array([place[answer.strip()] for answer in rows["answer"]])
    rank_N = np.concatenate(
        [
            pessimistic_ranks(unit_rows(part_NE) @ embedding_ME.T, gold_N[start : start + ROWS_AT_ONCE])
            for start in range(0, len(prediction_NE), ROWS_AT_ONCE)
            for part_NE in [prediction_NE[start : start + ROWS_AT_ONCE]]
        ]
    )
    return [(hit.answer, hit.score, int(rank), len(answers)) for (hit,), rank in zip(hits, rank_N, strict=True)]


def choose_among_own(
    rows: Dataset, prediction_NE: NDArray, embedding_of: dict[str, NDArray]
) -> list[tuple[str, float, int, int]]:
    """The same of each row's own candidates."""
    chosen = []
    for row, unit_E in zip(rows, unit_rows(prediction_NE), strict=True):
        candidates = [text.strip() for text in row["candidates"]]
        score_1M = (np.stack([embedding_of[text] for text in candidates]) @ unit_E)[None]
        best, gold = int(score_1M[0].argmax()), candidates.index(row["answer"].strip())
        rank = int(pessimistic_ranks(score_1M, np.array([gold]))[0])
        chosen.append((candidates[best], float(score_1M[0, best]), rank, len(candidates)))
    return chosen


def _answers(rows: Dataset) -> list[str]:
    """The different answers of the rows."""
    return list(dict.fromkeys(answer.strip() for answer in rows["answer"]))


def _own_candidates(rows: Dataset) -> list[str]:
    if "candidates" not in rows.column_names:
        return []
    return [text.strip() for candidates in rows["candidates"] for text in candidates]


def _check_labels(labels: Sequence[str], answers: Sequence[str]) -> None:
    check_answers(labels)
    missing = [answer for answer in answers if answer not in labels]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(answers)} answers are not among the labels, the first: {missing[0][:60]!r}. Add "
            "them to the file."
        )
