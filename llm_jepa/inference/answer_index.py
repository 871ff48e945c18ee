"""`AnswerIndex`: the answers nearest to a query in latent space, by cosine. A query is one forward of the model.

Up to 100,000 answers it compares a query with every one, by a matrix product; beyond, usearch finds candidates, which
are then compared exactly. Legend: Q queries, N answers, D the width, K answers found.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm_jepa.inference.candidates import check_added, check_answers, check_deleted, stripped
from llm_jepa.inference.index_files import (
    IndexFacts,
    check_made_by,
    check_new_index,
    open_embeddings,
    open_neighbours,
    read_answers_of,
    read_index_facts,
    usearch_index,
    write_index,
)
from llm_jepa.inference.ranking import TIE, is_constant, nearest, num_equal, unit_rows

if TYPE_CHECKING:
    from llm_jepa.inference.encoder import LatentEncoder

EXACT_ANSWERS = 100_000
"""Up to as many answers a query is compared with every one."""
MAX_SCORES = 2**24
"""As many cosines are in memory at a time."""
CANDIDATES_PER_HIT, MIN_CANDIDATES = 4, 64
"""How many answers usearch finds for each that is wanted, to be compared exactly."""
CHECKED_ANSWERS = 10_000
"""As many are looked at for whether all embeddings are equal."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """An answer that was found.

    Attributes:
        score: Cosine of query and answer.
        num_equal: How many other answers have the same score. Such an answer is not chosen over them.
    """

    answer: str
    score: float
    num_equal: int


class AnswerIndex:
    """Answers with their embeddings, bound to the model and the predictor that made them.

    Args:
        answers: The answers, all different.
        embedding_ND: Their embeddings, rows of length 1, float32; may be mapped from a file.
        checkpoint, predictor: Digests, as those of `LatentEncoder`.
        neighbours: A usearch index of the rows; None to make it when it is needed.
    """

    exact_answers = EXACT_ANSWERS

    def __init__(
        self, answers: Sequence[str], embedding_ND: NDArray, checkpoint: str, predictor: str, neighbours: Any = None
    ):
        assert len(answers) == len(embedding_ND)
        self.answers, self.embedding_ND, self._neighbours = list(answers), embedding_ND, neighbours
        self.facts = IndexFacts(checkpoint, predictor, embedding_ND.shape[1], len(answers))
        if is_constant(embedding_ND[:CHECKED_ANSWERS]):
            logger.warning(
                "All %d answers have the same embedding: the latent space has collapsed, and their ranking says "
                "nothing.", len(answers),
            )  # fmt: skip

    @classmethod
    def build(
        cls,
        encoder: "LatentEncoder",
        answers: Sequence[str],
        batch_size: int = 16,
        progress: Callable[[int], None] = lambda number: None,
    ) -> "AnswerIndex":
        """Encode answers as targets.

        Args:
            progress: Called after each batch with its number of answers.

        Raises:
            ValueError: An answer is empty, given twice or longer than the model, or usearch is needed and missing.
        """
        check_answers(answers)
        if len(answers) > cls.exact_answers:
            usearch_index()  # before the work
        embedding_ND = unit_rows(encoder.encode_targets(answers, batch_size, progress).numpy())
        return cls(answers, embedding_ND, encoder.checkpoint, encoder.predictor)

    @classmethod
    def load(cls, directory: str | Path) -> "AnswerIndex":
        """Open a saved index; its embeddings are mapped into memory.

        Raises:
            ValueError: There is none, or a file of it is missing or truncated, or usearch is needed and missing.
        """
        directory = Path(directory)
        facts = read_index_facts(directory)
        answers, embedding_ND = read_answers_of(directory), open_embeddings(directory)
        return cls(answers, embedding_ND, facts.checkpoint, facts.predictor, open_neighbours(directory))

    def save(self, directory: str | Path) -> None:
        """Write the index, whole or not at all; an index that is there is replaced.

        Raises:
            ValueError: The directory holds other files, or usearch is needed and missing.
        """
        check_new_index(Path(directory))
        write_index(Path(directory), self.facts, self.answers, self.embedding_ND, self._usearch())

    def __len__(self) -> int:
        return len(self.answers)

    def add(
        self, encoder: "LatentEncoder", answers: Sequence[str], progress: Callable[[int], None] = lambda number: None
    ) -> "AnswerIndex":
        """The index with further answers; those that are there are not encoded again.

        Args:
            progress: Called after each batch with its number of answers.

        Raises:
            ValueError: The encoder is not the index's, or as `check_added` raises.
        """
        self.check_made_by(encoder)
        check_added(self.answers, answers)
        added = AnswerIndex.build(encoder, answers, progress=progress)
        embedding_ND = np.concatenate([self.embedding_ND, added.embedding_ND])
        return AnswerIndex([*self.answers, *answers], embedding_ND, self.facts.checkpoint, self.facts.predictor)

    def delete(self, answers: Sequence[str]) -> "AnswerIndex":
        """The index without some answers. Raises as `check_deleted` does."""
        check_deleted(self.answers, answers)
        gone = stripped(answers)
        kept = [i for i, answer in enumerate(self.answers) if answer.strip() not in gone]
        answers_left = [self.answers[i] for i in kept]
        return AnswerIndex(answers_left, self.embedding_ND[kept], self.facts.checkpoint, self.facts.predictor)

    def ask(self, encoder: "LatentEncoder", queries: Sequence[str], k: int = 5) -> list[list[Hit]]:
        """The k answers nearest to each query. Raises as `LatentEncoder.encode_sources` and `check_made_by`."""
        self.check_made_by(encoder)
        return self.search(encoder.encode_sources(queries).numpy(), k)

    def check_made_by(self, encoder: "LatentEncoder", name: str = "in memory") -> None:
        """Raise ValueError unless this encoder's model and predictor made the index."""
        check_made_by(self.facts, encoder.checkpoint, encoder.predictor, encoder.width, name)

    def search(self, query_QD: NDArray, k: int = 5) -> list[list[Hit]]:
        """The k answers nearest to each query's embedding, nearest first; of equal ones the first.

        Raises:
            ValueError: `k` is below 1, or the queries have another width.
        """
        if k < 1:
            raise ValueError(f"`k` is {k}; it must be at least 1.")
        if query_QD.shape[1] != self.facts.width:
            raise ValueError(f"The queries have width {query_QD.shape[1]}; the index has {self.facts.width}.")
        unit_QD = unit_rows(query_QD)
        if self._usearch() is not None:
            return [self._hits_among(unit_D, k) for unit_D in unit_QD]
        size = max(1, MAX_SCORES // len(self))
        parts = [unit_QD[start : start + size] for start in range(0, len(unit_QD), size)]
        return [hits for part_QD in parts for hits in self._exact_hits(part_QD, k)]

    def _exact_hits(self, unit_QD: NDArray, k: int) -> list[list[Hit]]:
        score_QN = unit_QD @ self.embedding_ND.T
        found_QK = nearest(score_QN, k)
        equal_QK = num_equal(score_QN, found_QK)
        return [
            [Hit(self.answers[i], float(score_N[i]), int(equal)) for i, equal in zip(found_K, equal_K, strict=True)]
            for score_N, found_K, equal_K in zip(score_QN, found_QK, equal_QK, strict=True)
        ]

    def _hits_among(self, unit_D: NDArray, k: int) -> list[Hit]:
        """The nearest of the answers that usearch finds, by their exact cosines."""
        wanted = min(len(self), max(MIN_CANDIDATES, CANDIDATES_PER_HIT * k))
        candidate_C = np.sort(self._usearch().search(unit_D, wanted).keys.astype(np.int64))
        score_1C = (self.embedding_ND[candidate_C] @ unit_D)[None]
        found_1K = nearest(score_1C, k)
        equal_1K = num_equal(score_1C, found_1K)
        if score_1C[0, found_1K[0, -1]] <= score_1C.min() + TIE:  # further answers may score as much as a hit
            equal_1K = num_equal((self.embedding_ND @ unit_D)[None], candidate_C[found_1K])
        return [
            Hit(self.answers[candidate_C[i]], float(score_1C[0, i]), int(equal))
            for i, equal in zip(found_1K[0], equal_1K[0], strict=True)
        ]

    def _usearch(self) -> Any:
        """The usearch index of a large index, made once; None for a small one."""
        if self._neighbours is None and len(self) > self.exact_answers:
            self._neighbours = usearch_index()(ndim=self.facts.width, metric="ip", dtype="f32")
            self._neighbours.add(np.arange(len(self)), np.asarray(self.embedding_ND))
        return self._neighbours
