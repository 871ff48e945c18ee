"""Scores of a VL-JEPA run: answers chosen by their embedding, and retrieval both ways. All ranks are strict.

Legend: N rows, M answers, E the shared space's width.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from llm_jepa.data.loading import load_split
from llm_jepa.evaluation.held_out_rows import sample_indices
from llm_jepa.inference.answer_index import AnswerIndex
from llm_jepa.inference.candidates import check_answers
from llm_jepa.inference.ranking import pessimistic_ranks, unit_rows
from llm_jepa.scoring.tasks import Rate
from llm_jepa.vision.building import picture_directory
from llm_jepa.vision.collator import VisionCollator
from llm_jepa.vision.feature_cache import FeatureCache, with_cached_features
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.retrieval import answer_ranks, image_ranks, retrieval_scores
from llm_jepa.vision.rows import answer_key, prepare_rows

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class VisionPrediction:
    """The answer that was chosen for a row, and the strict rank of the right one among `num_candidates`."""

    row_index: int
    question: str | None
    gold: str
    prediction: str
    cosine: float
    rank: int
    num_candidates: int


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
    args, directory = recipe.training, picture_directory(recipe.source.dataset_name)
    model = VLJEPAModel.from_pretrained(recipe.output_dir).to(args.device).eval()
    rows = load_split(recipe.source, args.dataset_test_split)
    assert isinstance(rows, Dataset), "recipes of VL-JEPA have no streams"
    indices = sample_indices(len(rows), max_rows) if max_rows is not None else range(len(rows))
    prepared = prepare_rows(rows.select(indices), args, model.processor, "held-out", directory)
    answers = list(dict.fromkeys(answer.strip() for answer in prepared["answer"]))
    if labels is not None:
        _check_labels(labels, answers)
    cache = None
    if args.feature_cache is not None:
        cache = FeatureCache(args.feature_cache, model.vision_encoder, model.processor)
        prepared = with_cached_features(prepared, cache, model.vision_encoder, model.processor, directory)
    collator = VisionCollator(model.processor, args, cache, directory)
    prediction_NE = embed_rows(model, prepared, collator, batch_size, progress)
    texts = list(dict.fromkeys([*answers, *(labels or ()), *_own_candidates(prepared)]))
    embedding_of = dict(zip(texts, unit_rows(model.encode_text(texts, batch_size).numpy()), strict=True))
    if labels is None and "candidates" in prepared.column_names:
        chosen = choose_among_own(prepared, prediction_NE, embedding_of)
    else:
        candidates = list(labels or answers)
        embedding_ME = np.stack([embedding_of[text] for text in candidates])
        chosen = choose_among_all(prepared, prediction_NE, candidates, embedding_ME)
    predictions = [
        VisionPrediction(indices[row["row_index"]], row.get("question"), row["answer"].strip(), *found)
        for row, found in zip(prepared, chosen, strict=True)
    ]
    key_N = np.array([answer_key(answer) for answer in prepared["answer"]])
    target_NE = np.stack([embedding_of[answer.strip()] for answer in prepared["answer"]])
    frequency = Counter(answer.strip() for answer in prepared["answer"]).most_common(1)[0][1]
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
