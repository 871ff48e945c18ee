"""Measures how long each stage of a run on pictures and questions takes for one request, by turns.

    VL-JEPA    picture, vision_encoder, predictor, ranking or encoding_and_ranking
    token VLM  picture, vision_encoder, reading, likelihood; or picture, vision_encoder, generation

A stage gets what the one before it gives, computed beforehand. An answer takes the sum of its stages.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_jepa.evaluation.interleaving import interleave, seconds_figures, timed
from llm_jepa.evaluation.latency import hardware_of
from llm_jepa.evaluation.latency_report import Hardware
from llm_jepa.evaluation.peak_memory import PeakMemory
from llm_jepa.evaluation.token_likelihood import ReadRows, candidate_log_probs, read_rows
from llm_jepa.evaluation.vision import HeldOutQuestions, best_of
from llm_jepa.inference.ranking import unit_rows
from llm_jepa.runs.record import LIBRARIES, toolkit_commit
from llm_jepa.scoring.exact import is_strict_match
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.pictures import read_frames
from llm_jepa.vision.recipe import VisionRecipe
from llm_jepa.vision.token_model import TokenVLM

Stage = Callable[[int], Any]
"""Computes a stage of the row of a number, and gives what the next one needs."""
CANDIDATES_AT_ONCE = 64


@dataclass(frozen=True)
class StageTime:
    """What a stage took, and whether the answer that it chose or wrote is right; None if it gave none."""

    seconds: float
    is_right: bool | None


@dataclass(frozen=True)
class VisionLatencyReport:
    """How long a run on pictures and questions takes for one request.

    Attributes:
        parts: Key -> the models of which the run's was made.
        dataset, split: Where the requests are from.
        dtype: Precision of the weights.
        candidates: The mean number that an answer is chosen from.
        peak_memory_bytes: As `PeakMemory`, of all stages.
        versions, commit: Of the libraries, and of the toolkit if it is a git checkout.
        stages: Name -> `answers`, `mean_seconds`, and `seconds_per_answer`, which are quartiles.
        answers: Way to answer -> the same of the sums of its stages, the `stages`, and how many are `right`.
    """

    answer_form: str
    parts: Mapping[str, str]
    predictor_layers: int
    dataset: str
    split: str
    hardware: Hardware
    dtype: str
    requests: int
    candidates: float
    peak_memory_bytes: int
    versions: Mapping[str, str]
    commit: str | None
    stages: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, Any]]


class EmbeddingStages:
    """The stages of a `VLJEPAModel`.

    Attributes:
        stages: Name -> stage.
        answers: Way to answer -> its stages.
    """

    def __init__(self, model: VLJEPAModel, held_out: HeldOutQuestions):
        self.model, self.pictures = model, PictureStages(model, held_out)
        self.questions, self.candidates = _questions(held_out), held_out.candidates
        self.golds = held_out.golds
        self.stages: dict[str, Stage] = {
            **self.pictures.stages,
            "predictor": self.predict,
            "ranking": self.rank,
            "encoding_and_ranking": self.encode_and_rank,
        }
        self.answers = {
            "candidates cached": (*self.pictures.stages, "predictor", "ranking"),
            "candidates encoded": (*self.pictures.stages, "predictor", "encoding_and_ranking"),
        }
        common = held_out.common_candidates
        of_rows = self.candidates if common is None else [common]
        encoded = [unit_rows(model.encode_text(texts).numpy()) for texts in of_rows]
        self._unit_KE = encoded if common is None else encoded * len(self.golds)
        self._prediction_1E = {row: self.predict(row) for row in range(len(self.golds))}

    def predict(self, row: int) -> Tensor:
        """Tokenise the question and predict the embedding of its answer."""
        inputs = _question_inputs(self.model, self.questions[row]) | self.pictures.patches(row)
        return self.model(**inputs).prediction_NE.float()

    def rank(self, row: int) -> bool:
        """Find the nearest candidate; their embeddings are there."""
        return self._is_right(row, self._unit_KE[row])

    def encode_and_rank(self, row: int) -> bool:
        """Encode the candidates and find the nearest one."""
        return self._is_right(row, unit_rows(self.model.encode_text(self.candidates[row]).numpy()))

    def _is_right(self, row: int, unit_KE: NDArray) -> bool:
        score_K = unit_KE @ unit_rows(self._prediction_1E[row].cpu().numpy())[0]
        return best_of(self.candidates[row], score_K, self.golds[row])[2] == 1


class TokenStages:
    """The stages of a `TokenVLM`, with the attributes of `EmbeddingStages`.

    Args:
        max_new_tokens: Limit of a generated answer.
    """

    def __init__(self, model: TokenVLM, held_out: HeldOutQuestions, max_new_tokens: int):
        self.model, self.pictures = model, PictureStages(model, held_out)
        self.questions, self.candidates = _questions(held_out), held_out.candidates
        self.golds, self.max_new_tokens = held_out.golds, max_new_tokens
        self.stages: dict[str, Stage] = {
            **self.pictures.stages,
            "reading": self.read,
            "likelihood": self.choose,
            "generation": self.generate,
        }
        self.answers = {
            "likeliest candidate": (*self.pictures.stages, "reading", "likelihood"),
            "generated": (*self.pictures.stages, "generation"),
        }
        self._read = {row: self.read(row) for row in range(len(self.golds))}

    def _inputs(self, row: int) -> dict[str, Tensor]:
        return _question_inputs(self.model, self.questions[row]) | self.pictures.patches(row)

    def read(self, row: int) -> ReadRows:
        """Tokenise the question and compute what all candidates share."""
        return read_rows(self.model, self._inputs(row))

    def choose(self, row: int) -> bool:
        """Compute the likelihood of every candidate after what they share."""
        (scores,) = candidate_log_probs(self.model, self._read[row], [self.candidates[row]], CANDIDATES_AT_ONCE)
        return best_of(self.candidates[row], np.array(scores), self.golds[row])[2] == 1

    def generate(self, row: int) -> bool:
        """Read picture and question, and write the answer token by token."""
        (text,) = self.model.generate_answers(self._inputs(row), self.max_new_tokens)
        return is_strict_match(text, self.golds[row])


class PictureStages:
    """What is done to a picture before a question is read; nothing where the run sees none."""

    def __init__(self, model: VLJEPAModel | TokenVLM, held_out: HeldOutQuestions):
        self.model, self.directory = model, held_out.collator.directory
        self.images = held_out.rows["image"] if model.config.sees_images else []
        self.stages: dict[str, Stage] = {"picture": self.read, "vision_encoder": self.encode} if self.images else {}
        self._pixels = [self.read(row) for row in range(len(self.images))]
        self._patches = [self.encode(row) for row in range(len(self.images))]

    def read(self, row: int) -> Tensor:
        """Open a picture's file, decode it and make its pixels."""
        frames = read_frames(self.images[row], f"row {row}", self.directory)
        return self.model.processor.pixels([frames])

    def encode(self, row: int) -> Tensor:
        """Compute the features of pixels."""
        return self.model.encode_pictures(self._pixels[row].to(self.model.device))

    def patches(self, row: int) -> dict[str, Tensor]:
        """The features of a row, as an argument of `forward`."""
        return {"patches": self._patches[row]} if self.stages else {}


def _questions(held_out: HeldOutQuestions) -> Sequence[str | None]:
    rows = held_out.rows
    return rows["question"][:] if "question" in rows.column_names else [None] * len(rows)


def _question_inputs(model: VLJEPAModel | TokenVLM, question: str | None) -> dict[str, Tensor]:
    if question is None:
        return {}
    ids_1S, mask_1S = model.processor.questions([question], model.config.max_question_tokens)
    return {"question_ids": ids_1S.to(model.device), "question_mask": mask_1S.to(model.device)}


def stages_of(
    model: VLJEPAModel | TokenVLM, held_out: HeldOutQuestions, max_new_tokens: int | None = None
) -> EmbeddingStages | TokenStages:
    """The stages of a model in evaluation; what each gets from the one before is computed here.

    Args:
        max_new_tokens: Limit of a generated answer; None for the run's `max_answer_tokens`.
    """
    with torch.no_grad():
        if isinstance(model, TokenVLM):
            return TokenStages(model, held_out, max_new_tokens or model.config.max_answer_tokens)
        return EmbeddingStages(model, held_out)


def measure_vision_latency(
    recipe: VisionRecipe,
    run: EmbeddingStages | TokenStages,
    progress: Callable[[int], None] = lambda number: None,
) -> VisionLatencyReport:
    """Compute every stage of every row, by turns.

    Args:
        progress: Called after each row, with 1.
    """
    (report,) = measure_side_by_side({"run": (recipe, run)}, progress).values()
    return report


@torch.no_grad()
def measure_side_by_side(
    runs: Mapping[str, tuple[VisionRecipe, EmbeddingStages | TokenStages]],
    progress: Callable[[int], None] = lambda number: None,
) -> dict[str, VisionLatencyReport]:
    """Compute every stage of every run on every row, all of them by turns. The runs have the same rows.

    Args:
        runs: Name -> recipe and stages of a run.
        progress: Called after each row, with 1.
    """
    ways = {
        (name, stage): _timed_stage(compute)
        for name, (_, run) in runs.items()
        for stage, compute in run.stages.items()
    }
    num_rows = {len(run.golds) for _, run in runs.values()}
    assert len(num_rows) == 1, "the runs answer the same rows"
    with PeakMemory() as memory:
        times = interleave(ways, range(num_rows.pop()), progress=progress)
    return {
        name: _report(recipe, run, {stage: times[name, stage] for stage in run.stages}, memory.peak_bytes)
        for name, (recipe, run) in runs.items()
    }


def _report(
    recipe: VisionRecipe,
    run: EmbeddingStages | TokenStages,
    times: Mapping[str, Sequence[StageTime]],
    peak_memory_bytes: int,
) -> VisionLatencyReport:
    model: Any = run.model
    return VisionLatencyReport(
        answer_form=recipe.training.answer_form,
        parts=recipe.training.part_names,
        predictor_layers=recipe.training.predictor_layers,
        dataset=str(recipe.source.dataset_name),
        split=recipe.source.dataset_test_split,
        hardware=hardware_of(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        requests=len(run.golds),
        candidates=float(np.mean([len(texts) for texts in run.candidates])),
        peak_memory_bytes=peak_memory_bytes,
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        commit=toolkit_commit(),
        stages={name: seconds_figures([one.seconds for one in found]) for name, found in times.items()},
        answers={name: _answer_figures(stages, times) for name, stages in run.answers.items()},
    )


def _timed_stage(stage: Stage) -> Callable[[int], StageTime]:
    def measure(row: int) -> StageTime:
        found, seconds = timed(lambda: stage(row))
        return StageTime(seconds, found if isinstance(found, bool) else None)

    return measure


def _answer_figures(stages: Sequence[str], times: Mapping[str, Sequence[StageTime]]) -> dict[str, Any]:
    rows = zip(*(times[name] for name in stages), strict=True)
    right = sum(bool(one.is_right) for one in times[stages[-1]])
    return seconds_figures([sum(one.seconds for one in row) for row in rows]) | {"stages": stages, "right": right}
