"""`LatentEncoder`: a run's model and its latent predictor, which encode texts as the views of training.

Legend: N texts, D the model's width.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.prompts import conversation_ids
from llm_jepa.data.text_rows import text_row_maker
from llm_jepa.data.views import TokenSequence, ViewMaker
from llm_jepa.inference.embedding import embed
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.latent_predictor import (
    PredictorFacts,
    check_fits,
    check_has_views,
    predictor_digest,
    read_facts,
    read_weights,
)
from llm_jepa.models.loading import position_limit
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_tuned
from llm_jepa.models.weights_digest import weights_digest
from llm_jepa.objectives.pair import target_layer_index
from llm_jepa.objectives.predictor import PredictorTokens
from llm_jepa.objectives.view_sequences import ViewName, content_sequence, predicting_sequence, view_names

BATCH_SIZE = 16
OTHER_VIEW = "x"
"""Stands for the view that is not encoded; attention is causal, so it changes no embedding."""
OTHER_COMPLETION = f" {OTHER_VIEW}"
"""The same after a plain prompt, whose last token it must not join."""
VECTORS = "vectors_KD"
Progress = Callable[[int], None]


def no_progress(number: int) -> None:
    """Tells nobody."""


class LatentEncoder:
    """Encodes texts as sources and as targets; the embeddings are those that training computes.

    Args:
        model: The tuned model, with its adapter if it has one. It is set to evaluation.
        tokenizer: That of the run.
        facts: What the run's latent predictor is.
        weights: The predictor's weights; none for `num_predictor_tokens: 0`.
        checkpoint: Digest of the run's weights, by which an index knows the model; empty if unknown.
        predictor: Digest of the latent predictor.

    Raises:
        ValueError: The predictor is of an objective without views, or of another model.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: PredictorFacts,
        weights: Mapping[str, Tensor],
        checkpoint: str = "",
        predictor: str = "",
    ):
        check_has_views(facts)
        inner = without_adapter(model)
        check_fits(facts, inner, tokenizer)
        self.model, self.tokenizer, self.facts = inner.eval(), tokenizer, facts
        self.checkpoint, self.predictor = checkpoint, predictor
        self.options = SimpleNamespace(**facts.options)
        self.max_positions = position_limit(inner.config)
        vectors_KD = vectors_in(weights)
        self._vectors = None if vectors_KD is None else PredictorTokens(vectors_KD).to(inner.device)
        self._make_views = ViewMaker(tokenizer, self.options.jepa_source_view, self.options.source_turn)
        has_template = tokenizer.chat_template is not None
        self._to_row = text_row_maker(self.options, has_template, facts.has_plain_prompts)

    @classmethod
    def from_run(cls, directory: str | Path) -> "LatentEncoder":
        """Load the model and the latent predictor of a run's output directory, or of what was merged or pulled.

        Device and precision are those of `llm-jepa eval`.

        Raises:
            ValueError: There is no model or no latent predictor, or they do not fit each other.
        """
        directory = Path(directory)
        facts, weights = read_facts(directory), read_weights(directory)
        recipe, checkpoint = read_tuned(directory)
        tokenizer = load_run_tokenizer(recipe)
        ((_, _, model),) = load_checkpoints(recipe, [checkpoint], len(tokenizer))
        return cls(model, tokenizer, facts, weights, weights_digest(directory), predictor_digest(directory))

    @property
    def width(self) -> int:
        """The dimension of an embedding."""
        return self.facts.width

    def encode_sources(
        self, texts: Sequence[str], batch_size: int = BATCH_SIZE, progress: Progress = no_progress
    ) -> Tensor:
        """Encode texts as source views: embedding_ND, float32 on the CPU. Texts of similar length share a batch.

        Args:
            progress: Called after each batch with its number of texts.

        Raises:
            ValueError: A text is empty, longer than the model, or has no finite embedding; the message has its number,
                from 0.
        """
        return self.embed_rows(self.text_rows(texts, "source"), "source", batch_size, progress)

    def encode_targets(
        self, texts: Sequence[str], batch_size: int = BATCH_SIZE, progress: Progress = no_progress
    ) -> Tensor:
        """Encode texts as target views, otherwise as `encode_sources`."""
        return self.embed_rows(self.text_rows(texts, "target"), "target", batch_size, progress)

    def view_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The token ids of both views of a row of `llm_jepa.data.rows.to_rows`."""
        return self._make_views({**row, "input_ids": conversation_ids(self.tokenizer, row)})

    def embed_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        view: ViewName,
        batch_size: int = BATCH_SIZE,
        progress: Progress = no_progress,
    ) -> Tensor:
        """Embed one view of rows that `view_row` has made: embedding_ND. Raises as `encode_sources` does."""
        sequences = self.sequences(rows, view)
        self._check_lengths(sequences)
        predicting = self._predicts(view)
        layer = None if predicting else self._target_layer()
        longest_first = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
        embedding_ND = torch.empty(len(sequences), self.width)
        for start in range(0, len(sequences), batch_size):
            batch = longest_first[start : start + batch_size]
            vectors = self._vectors if predicting else None
            pad_token_id = self.tokenizer.pad_token_id
            embedding_ND[batch] = embed(self.model, [sequences[i] for i in batch], pad_token_id, vectors, layer)
            self._check_finite(embedding_ND, batch)
            progress(len(batch))
        return embedding_ND

    def text_rows(self, texts: Sequence[str], view: ViewName) -> list[dict[str, Any]]:
        """The rows of `view_row` of which texts are one view. Raises as `encode_sources` does."""
        rows = []
        other_target = OTHER_COMPLETION if self.facts.has_plain_prompts else OTHER_VIEW
        for number, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"Text {number} is empty. Leave it out.")
            pair = (text, other_target) if view == "source" else (OTHER_VIEW, text)
            try:
                rows.append(self.view_row(self._to_row(*pair)))
            except ValueError as error:
                raise ValueError(f"Text {number}: {error}") from error
        return rows

    def sequences(self, rows: Sequence[Mapping[str, Any]], view: ViewName) -> list[TokenSequence]:
        """The token sequences of one view of rows that `view_row` has made."""
        if self._predicts(view):
            return [predicting_sequence(row, view, self.options, self.tokenizer.pad_token_id) for row in rows]
        return [content_sequence(row, view, self.options) for row in rows]

    def _predicts(self, view: ViewName) -> bool:
        return view == view_names(self.options.jepa_direction)[0]

    def _target_layer(self) -> int | None:
        num_layers = self.model.config.get_text_config().num_hidden_layers
        return target_layer_index(self.options.target_layer, num_layers)

    def _check_lengths(self, sequences: Sequence[TokenSequence]) -> None:
        for number, sequence in enumerate(sequences):
            if self.max_positions is not None and len(sequence) > self.max_positions:
                raise ValueError(
                    f"Text {number} has {len(sequence)} tokens, more than the {self.max_positions} positions of the "
                    "model. Shorten it."
                )

    def _check_finite(self, embedding_ND: Tensor, numbers: Sequence[int]) -> None:
        for number in numbers:
            if not embedding_ND[number].isfinite().all():
                raise ValueError(
                    f"The embedding of text {number} has NaN or infinity in it: the run's weights are damaged, or "
                    f"hidden states exceed {self.model.dtype}. Copy the weights again, or train again."
                )


def vectors_in(weights: Mapping[str, Tensor]) -> Tensor | None:
    """The [PRED] vectors among the weights of objectives, whose names stand before them if there are several."""
    return next((value for name, value in weights.items() if name.rpartition(".")[2] == VECTORS), None)
