"""Scores of a run on pictures and questions: answers chosen by their embedding, or by their likelihood as tokens; of
embeddings also retrieval both ways. All ranks are strict.

Legend: N rows, M answers, E the shared space's width.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from llm_jepa.data.picture_files import picture_directory
from llm_jepa.evaluation.held_out_rows import sample_indices
from llm_jepa.evaluation.token_likelihood import candidate_log_probs, read_rows
from llm_jepa.inference.answer_index import AnswerIndex
from llm_jepa.inference.candidates import check_answers
from llm_jepa.inference.ranking import pessimistic_ranks, unit_rows
from llm_jepa.scoring.exact import is_strict_match
from llm_jepa.scoring.tasks import Rate
from llm_jepa.vision.base_model import PictureQuestionModel
from llm_jepa.vision.building import load_rows, load_run_model
from llm_jepa.vision.collator import VisionCollator
from llm_jepa.vision.feature_cache import FeatureCache, with_cached_features
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.picture_check import check_pictures
from llm_jepa.vision.processor import PictureQuestionProcessor, refuse_longer
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.retrieval import answer_ranks, image_ranks, ranks_of, retrieval_scores
from llm_jepa.vision.rows import KIND_COLUMN, answer_key, arranged_rows
from llm_jepa.vision.token_model import TokenVLM

INPUTS = ("pixel_values", "patches", "question_ids", "question_mask")
"""What a model reads of a batch to answer."""
Chosen = tuple[str, float, int, int]
"""The best candidate, its score, the strict rank of the right one, and how many there are."""
Progress = Callable[[int], None]


@dataclass(frozen=True)
class VisionPrediction:
    """The answer that was chosen for a row.

    Attributes:
        score: Its cosine with the prediction, or its log-probability in nats.
        rank: The strict rank of the right answer among `num_candidates`.
        kind: The row's kind of question, where the data set has them.
        generated: The greedy text of a token VLM.
    """

    row_index: int
    question: str | None
    gold: str
    prediction: str
    score: float
    rank: int
    num_candidates: int
    kind: str | None = None
    generated: str | None = None


@dataclass(frozen=True)
class HeldOutQuestions:
    """Held-out rows as the collator reads them.

    Attributes:
        indices: The number of each row in its split.
        kinds: The kind of question of each row, where the data set has them.
        common_candidates: What every row chooses from: labels, or all answers of the split; None for a row's own.
    """

    rows: Dataset
    indices: Sequence[int]
    kinds: Sequence[str | None]
    collator: VisionCollator
    common_candidates: Sequence[str] | None = None

    @property
    def golds(self) -> list[str]:
        """The right answer of each row."""
        return [*self.rows["answer"]]

    @property
    def candidates(self) -> list[Sequence[str]]:
        """What each row chooses from."""
        if self.common_candidates is None:
            return [*self.rows["candidates"]]
        return [self.common_candidates] * len(self.rows)

    def batches(self, batch_size: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """The arguments of a model's `forward` for so many rows at once, without answers."""
        for start in range(0, len(self.rows), batch_size):
            batch = self.collator([*self.rows.select(range(start, min(start + batch_size, len(self.rows))))])
            yield {name: batch[name].to(device) for name in INPUTS if name in batch}


@dataclass(frozen=True)
class VisionResult:
    """What an evaluation finds.

    Attributes:
        scores: `accuracy`; of a token VLM `exact_match`, how often its greedy text is the answer; and, of the same
            rows, `most_frequent`, what the split's most frequent answer scores.
        chance: Accuracy of a random choice.
        image_to_answer, answer_to_image: Recall at 1, 5 and 10, and the mean reciprocal rank; empty without
            embeddings.
    """

    predictions: list[VisionPrediction]
    scores: dict[str, Rate]
    chance: float
    image_to_answer: dict[str, float] = field(default_factory=dict)
    answer_to_image: dict[str, float] = field(default_factory=dict)


def evaluate_vision(
    recipe: VisionRecipe,
    labels: Sequence[str] | None = None,
    max_rows: int | None = None,
    batch_size: int = 16,
    progress: Progress = lambda number: None,
) -> VisionResult:
    """Evaluate a run on its `dataset_test_split`.

    Args:
        labels: What to choose from; else a row's own candidates or, without those, all answers of the split.
        max_rows: So many rows, a sample that is always the same.
        progress: Called with the number of rows after each batch.

    Raises:
        ValueError: The run or the data cannot be loaded, rows or labels are wrong, or an answer is not among these.
    """
    return evaluate_model(*load_subject(recipe, labels, max_rows), batch_size, progress)


def load_subject(
    recipe: VisionRecipe, labels: Sequence[str] | None = None, max_rows: int | None = None
) -> tuple[PictureQuestionModel, HeldOutQuestions]:
    """The model of a run, in evaluation mode, and its rows. Arguments and errors are those of `evaluate_vision`."""
    args = recipe.training
    model: Any = load_run_model(recipe.output_dir, args)
    model = model.to(args.device).eval()
    return model, with_features(load_held_out(recipe, model.processor, labels, max_rows), recipe, model)


def load_held_out(
    recipe: VisionRecipe,
    processor: PictureQuestionProcessor,
    labels: Sequence[str] | None = None,
    max_rows: int | None = None,
) -> HeldOutQuestions:
    """The rows of a recipe's `dataset_test_split`, checked. Arguments and errors are those of `evaluate_vision`."""
    args, directory = recipe.training, picture_directory(recipe.source.dataset_name)
    rows = load_rows(recipe, args.dataset_test_split)
    indices = sample_indices(len(rows), max_rows) if max_rows is not None else list(range(len(rows)))
    arranged = arranged_rows(rows, args, processor, "held-out")
    prepared, rows = arranged.select(indices), rows.select(indices)
    kinds = [str(kind) for kind in rows[KIND_COLUMN]] if KIND_COLUMN in rows.column_names else [None] * len(rows)
    if "image" in prepared.column_names:
        check_pictures(prepared["image"], directory)
    if labels is not None:
        labels = [label.strip() for label in labels]
        _check_labels(labels, prepared["answer"])
        refuse_longer(labels, [len(ids) for ids in processor.answer_ids(labels)], args.max_answer_tokens)
    common = labels
    if labels is None and args.candidates_column is None:
        common = list(dict.fromkeys(arranged["answer"]))
    return HeldOutQuestions(prepared, indices, kinds, VisionCollator(processor, args, None, directory), common)


def with_features(held_out: HeldOutQuestions, recipe: VisionRecipe, model: PictureQuestionModel) -> HeldOutQuestions:
    """The same rows with features of the recipe's cache in the place of pictures, if it has one."""
    if recipe.training.feature_cache is None:
        return held_out
    collator, encoder = held_out.collator, model.vision_encoder
    cache = FeatureCache(recipe.training.feature_cache, encoder, collator.processor)
    rows = with_cached_features(held_out.rows, cache, encoder, collator.processor, collator.directory)
    return replace(held_out, rows=rows, collator=replace(collator, cache=cache))


def evaluate_model(
    model: PictureQuestionModel,
    held_out: HeldOutQuestions,
    batch_size: int = 16,
    progress: Progress = lambda number: None,
) -> VisionResult:
    """Evaluate a model in evaluation mode. Arguments are those of `evaluate_vision`."""
    if isinstance(model, TokenVLM):
        return evaluate_tokens(model, held_out, batch_size, progress)
    assert isinstance(model, VLJEPAModel)
    return evaluate_embeddings(model, held_out, batch_size, progress)


def chosen_answers(model: PictureQuestionModel, held_out: HeldOutQuestions, batch_size: int) -> list[VisionPrediction]:
    """What a model in evaluation mode chooses for each row, without the texts that a token VLM would generate."""
    if isinstance(model, TokenVLM):
        return _result(held_out, choose_likeliest(model, held_out, batch_size, lambda number: None)).predictions
    return evaluate_model(model, held_out, batch_size).predictions


def evaluate_embeddings(
    model: VLJEPAModel, held_out: HeldOutQuestions, batch_size: int, progress: Progress
) -> VisionResult:
    """Choose the nearest candidates."""
    golds, common = held_out.golds, held_out.common_candidates
    prediction_NE = embed_rows(model, held_out, batch_size, progress)
    of_rows = held_out.candidates if common is None else [common]
    texts = list(dict.fromkeys([*golds, *(text for candidates in of_rows for text in candidates)]))
    embedding_of = dict(zip(texts, unit_rows(model.encode_text(texts, batch_size).numpy()), strict=True))
    if common is None:
        chosen = choose_among_own(held_out, prediction_NE, embedding_of)
    else:
        embedding_ME = np.stack([embedding_of[text] for text in common])
        chosen = choose_among_all(held_out.rows, prediction_NE, common, embedding_ME)
    key_N = np.array([answer_key(answer) for answer in golds])
    target_NE = np.stack([embedding_of[answer] for answer in golds])
    result = _result(held_out, chosen)
    return replace(
        result,
        image_to_answer=retrieval_scores(answer_ranks(prediction_NE, target_NE, key_N)),
        answer_to_image=retrieval_scores(image_ranks(prediction_NE, target_NE, key_N)),
    )


def evaluate_tokens(model: TokenVLM, held_out: HeldOutQuestions, batch_size: int, progress: Progress) -> VisionResult:
    """Choose the likeliest candidates, and generate greedily."""
    chosen = choose_likeliest(model, held_out, batch_size, progress)
    generated: list[str] = []
    for inputs in held_out.batches(batch_size, model.device):
        generated += model.generate_answers(inputs, model.config.max_answer_tokens)
    golds = held_out.golds
    result = _result(held_out, chosen, generated)
    num_right = sum(is_strict_match(text, gold) for text, gold in zip(generated, golds, strict=True))
    return replace(result, scores={"exact_match": Rate(num_right, len(golds))} | result.scores)


def choose_likeliest(model: TokenVLM, held_out: HeldOutQuestions, batch_size: int, progress: Progress) -> list[Chosen]:
    """Of each row the likeliest candidate."""
    candidates, golds = held_out.candidates, held_out.golds
    chosen: list[Chosen] = []
    for inputs in held_out.batches(batch_size, model.device):
        first = len(chosen)
        of_rows = candidates[first : first + batch_size]
        for row, scores in enumerate(candidate_log_probs(model, read_rows(model, inputs), of_rows, batch_size), first):
            chosen.append(best_of(candidates[row], np.array(scores), golds[row]))
        progress(len(of_rows))
    return chosen


def _result(
    held_out: HeldOutQuestions, chosen: Sequence[Chosen], generated: Sequence[str] | None = None
) -> VisionResult:
    """The scores that models of both kinds have."""
    texts: Sequence[str | None] = generated or [None] * len(chosen)
    predictions = [
        VisionPrediction(index, row.get("question"), row["answer"], *found, kind, text)
        for index, row, found, kind, text in zip(
            held_out.indices, held_out.rows, chosen, held_out.kinds, texts, strict=True
        )
    ]
    frequency = Counter(held_out.golds).most_common(1)[0][1]
    return VisionResult(
        predictions,
        {
            "accuracy": Rate(sum(one.rank == 1 for one in predictions), len(predictions)),
            "most_frequent": Rate(frequency, len(predictions)),
        },
        float(np.mean([1 / one.num_candidates for one in predictions])),
    )


def embed_rows(
    model: VLJEPAModel,
    held_out: HeldOutQuestions,
    batch_size: int,
    progress: Progress = lambda number: None,
) -> NDArray:
    """prediction_NE of held-out rows."""
    parts = []
    for inputs in held_out.batches(batch_size, model.device):
        with torch.no_grad():
            parts.append(model(**inputs).prediction_NE.float().cpu().numpy())
        progress(len(parts[-1]))
    return np.concatenate(parts)


def choose_among_all(
    rows: Dataset, prediction_NE: NDArray, answers: Sequence[str], embedding_ME: NDArray
) -> list[Chosen]:
    """Of each row the nearest of all answers, its cosine, the strict rank of the right one, and how many there are."""
    hits = AnswerIndex(answers, embedding_ME, checkpoint="", predictor="").search(prediction_NE, k=1)
    place = {answer: i for i, answer in enumerate(answers)}
    gold_N = np.array([place[answer] for answer in rows["answer"]])
    ranks = ranks_of(prediction_NE, embedding_ME, gold_N)
    return [(hit.answer, hit.score, rank, len(answers)) for (hit,), rank in zip(hits, ranks, strict=True)]


def choose_among_own(
    held_out: HeldOutQuestions, prediction_NE: NDArray, embedding_of: dict[str, NDArray]
) -> list[Chosen]:
    """The same of each row's own candidates."""
    rows = zip(held_out.candidates, held_out.golds, unit_rows(prediction_NE), strict=True)
    return [
        best_of(candidates, np.stack([embedding_of[text] for text in candidates]) @ unit_E, gold)
        for candidates, gold, unit_E in rows
    ]


def best_of(candidates: Sequence[str], score_M: NDArray, gold: str) -> Chosen:
    """The candidate of the highest score."""
    best = int(score_M.argmax())
    rank = int(pessimistic_ranks(score_M[None], np.array([candidates.index(gold)]))[0])
    return candidates[best], float(score_M[best]), rank, len(candidates)


def _check_labels(labels: Sequence[str], answers: Sequence[str]) -> None:
    check_answers(labels)
    answers = list(dict.fromkeys(answers))
    missing = [answer for answer in answers if answer not in labels]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(answers)} answers are not among the labels, the first: {missing[0][:60]!r}. Add "
            "them to the file."
        )
