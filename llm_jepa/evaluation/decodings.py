"""Ways to answer from candidates: by embedding, by likelihood, by both, and by generating.

Legend: R candidates of a row, N candidates of all rows, D the model's width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.evaluation.candidate_task import CandidateTask
from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.evaluation.prefix_likelihood import candidate_log_probs
from llm_jepa.inference.encoder import OTHER_COMPLETION, OTHER_VIEW, LatentEncoder
from llm_jepa.inference.ranking import nearest, unit_rows

DecodingName = Literal["latent", "likelihood", "shortlist", "generate"]
DECODINGS: tuple[DecodingName, ...] = get_args(DecodingName)


class Decoding(ABC):
    """A way to score the candidates of rows; the highest score is the answer.

    Args:
        task: The rows and their candidates.
        batch_size: Sequences per forward.
    """

    name: ClassVar[DecodingName]
    temperature: float | None = None
    """Scores divided by it are log-probabilities up to a constant; None if they are none."""

    def __init__(self, task: CandidateTask, batch_size: int):
        self.task, self.batch_size = task, batch_size

    @abstractmethod
    def scores(self, indices: Sequence[int]) -> list[NDArray]:
        """The scores of the candidates of some rows: score_R of each."""


class LatentDecoding(Decoding):
    """The cosine of the source's predicted embedding and each candidate's: one forward a row.

    Candidates that all rows share are encoded beforehand, as for an index. A row's own choices are encoded with it.

    Args:
        temperature: That of InfoNCE in training.
    """

    name = "latent"

    def __init__(self, task: CandidateTask, batch_size: int, encoder: LatentEncoder, temperature: float):
        super().__init__(task, batch_size)
        self.encoder, self.temperature = encoder, temperature
        self._unit_ND = None if task.own is not None else self._targets(task.candidates)

    def scores(self, indices: Sequence[int]) -> list[NDArray]:
        """Cosines."""
        rows = [self.encoder.view_row(source_row(self.task.rows[i])) for i in indices]
        source_ND = unit_rows(self.encoder.embed_rows(rows, "source", self.batch_size).numpy())
        if self._unit_ND is not None:
            return list(source_ND @ self._unit_ND.T)
        own = [self.task.of_row(i) for i in indices]
        target_ND = self._targets([text for texts in own for text in texts])
        ends = np.cumsum([len(texts) for texts in own])
        return [
            target_RD @ source_D for target_RD, source_D in zip(np.split(target_ND, ends[:-1]), source_ND, strict=True)
        ]

    def _targets(self, texts: Sequence[str]) -> NDArray:
        return unit_rows(self.encoder.encode_targets(texts, self.batch_size).numpy())


class LikelihoodDecoding(Decoding):
    """The log-probability of each candidate after the prompt, whose forward the candidates share."""

    name = "likelihood"
    temperature = 1.0

    def __init__(
        self, task: CandidateTask, batch_size: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ):
        super().__init__(task, batch_size)
        self.model, self.tokenizer = model, tokenizer

    def scores(self, indices: Sequence[int]) -> list[NDArray]:
        """Log-probabilities in nats."""
        return [self.log_probs(i, self.task.of_row(i)) for i in indices]

    def log_probs(self, index: int, candidates: Sequence[str]) -> NDArray:
        """Those of some candidates after a row's prompt."""
        row, size = self.task.rows[index], self.batch_size
        return np.array(
            candidate_log_probs(self.model, self.tokenizer, row.prompt, candidates, size, row.template_kwargs)
        )


class ShortlistDecoding(Decoding):
    """The log-probabilities of the few candidates nearest in latent space; the others score minus infinity."""

    name = "shortlist"
    temperature = 1.0

    def __init__(self, latent: LatentDecoding, likelihood: LikelihoodDecoding, length: int):
        super().__init__(latent.task, latent.batch_size)
        self.latent, self.likelihood, self.length = latent, likelihood, length

    def scores(self, indices: Sequence[int]) -> list[NDArray]:
        """Log-probabilities in nats, of the nearest alone."""
        return [self._scores(i, cosine_R) for i, cosine_R in zip(indices, self.latent.scores(indices), strict=True)]

    def _scores(self, index: int, cosine_R: NDArray) -> NDArray:
        (nearest_K,) = nearest(cosine_R[None], self.length)
        candidates = self.task.of_row(index)
        score_R = np.full(len(candidates), -np.inf)
        score_R[nearest_K] = self.likelihood.log_probs(index, [candidates[i] for i in nearest_K])
        return score_R


class GenerateDecoding(Decoding):
    """Greedy generation: the candidate that the text is scores 1, the others 0; a text that is none has no answer."""

    name = "generate"

    def __init__(
        self,
        task: CandidateTask,
        batch_size: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
    ):
        super().__init__(task, batch_size)
        self.model, self.tokenizer, self.max_new_tokens = model, tokenizer, max_new_tokens

    def scores(self, indices: Sequence[int]) -> list[NDArray]:
        """1 for the generated candidate."""
        rows = [self.task.rows[i] for i in indices]
        completions = generate_completions(
            self.model,
            self.tokenizer,
            [row.prompt for row in rows],
            self.max_new_tokens,
            self.batch_size,
            template_kwargs=[row.template_kwargs for row in rows],
        )
        return [
            np.array([float(candidate.strip() == completion.text.strip()) for candidate in self.task.of_row(i)])
            for i, completion in zip(indices, completions, strict=True)
        ]


def source_row(row: HeldOutRow) -> dict[str, Any]:
    """The row of which the source view is made; the answer is not in it."""
    kwargs = dict(row.template_kwargs)
    is_chat = not isinstance(row.prompt, str)
    completion = [{"role": "assistant", "content": OTHER_VIEW}] if is_chat else OTHER_COMPLETION
    views = {"source": row.source, "target": OTHER_VIEW}
    tools = kwargs.pop("tools", None)
    return {"prompt": row.prompt, "completion": completion, **views, "tools": tools, "chat_template_kwargs": kwargs}
