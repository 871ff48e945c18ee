"""Tokens drafted by the latent dynamics g: the next hidden state is foretold, and the LM head reads a token from it.

Legend: S verified positions, D the model's width, V tokens of the draft vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from llm_jepa.objectives.latent_dynamics import LatentDecoderLayer, LatentMLP


class DraftHead:
    """The LM head on the tokens of a draft vocabulary: `argmax (W h + b)`, which no scale and no softcap changes.

    Args:
        model: The causal LM.
        token_ids: The draft vocabulary; None for the whole vocabulary.
    """

    def __init__(self, model: PreTrainedModel, token_ids: Sequence[int] | None):
        head = model.get_output_embeddings()
        assert head is not None, "the model has an LM head"
        self.head = cast(nn.Module, head)
        weight, bias = cast(Tensor, self.head.weight), cast(Tensor | None, getattr(self.head, "bias", None))
        self.token_ids_V = None if token_ids is None else torch.tensor(token_ids, device=weight.device)
        self._is_sliced = self.token_ids_V is not None and weight.is_floating_point()  # not packed by a quantiser
        if self._is_sliced:
            self._weight_VD = weight.detach()[self.token_ids_V].contiguous()
            self._bias_V = None if bias is None else bias.detach()[self.token_ids_V]

    def token(self, hidden_11D: Tensor) -> Tensor:
        """The likeliest token of the draft vocabulary: token_11."""
        if self._is_sliced:
            logits_11V = F.linear(hidden_11D, self._weight_VD, self._bias_V)
        else:
            logits_11V = self.head(hidden_11D)
            if self.token_ids_V is not None:
                logits_11V = logits_11V[..., self.token_ids_V]
        best_11 = logits_11V.argmax(dim=-1)
        return best_11 if self.token_ids_V is None else self.token_ids_V[best_11]


class Rollout(ABC):
    """Foretells hidden states, first from those that the model has computed, then from its own."""

    @abstractmethod
    def start(self) -> None:
        """Forget the text before."""

    @abstractmethod
    def verified(self, hidden_1SD: Tensor, embedding_1SD: Tensor) -> Tensor:
        """The state after the last of new positions, whose hidden states the model has computed: state_11D.

        Args:
            embedding_1SD: Of the token after each position.
        """

    @abstractmethod
    def drafted(self, state_11D: Tensor, embedding_11D: Tensor) -> Tensor:
        """The state after a drafted token: state_11D."""


class MLPRollout(Rollout):
    """`h^ = g(h, e(x))`, which reads one position."""

    def __init__(self, dynamics: LatentMLP):
        self.dynamics = dynamics

    def start(self) -> None:
        """There is nothing to forget."""

    def verified(self, hidden_1SD: Tensor, embedding_1SD: Tensor) -> Tensor:
        """g of the last position."""
        return self.dynamics(hidden_1SD[:, -1:], embedding_1SD[:, -1:])

    def drafted(self, state_11D: Tensor, embedding_11D: Tensor) -> Tensor:
        """g of the foretold state."""
        return self.dynamics(state_11D, embedding_11D)


class DecoderRollout(Rollout):
    """EAGLE's decoder layers (arXiv 2401.15077), which attend to all positions before, in a cache of their own."""

    def __init__(self, dynamics: LatentDecoderLayer):
        self.dynamics = dynamics
        self.start()

    def start(self) -> None:
        """An empty cache."""
        self._cache = DynamicCache(config=self.dynamics.config)
        self._num_verified = 0

    def verified(self, hidden_1SD: Tensor, embedding_1SD: Tensor) -> Tensor:
        """Replace what the drafted positions left in the cache by the verified positions."""
        self._cache.crop(self._num_verified - self._cache.get_seq_length())
        self._num_verified += hidden_1SD.shape[1]
        return self.dynamics(hidden_1SD, embedding_1SD, self._cache)[:, -1:]

    def drafted(self, state_11D: Tensor, embedding_11D: Tensor) -> Tensor:
        """Add the drafted position to the cache."""
        return self.dynamics(state_11D, embedding_11D, self._cache)


def rollout_of(dynamics: nn.Module) -> Rollout:
    """The rollout of latent dynamics."""
    if isinstance(dynamics, LatentDecoderLayer):
        return DecoderRollout(dynamics)
    assert isinstance(dynamics, LatentMLP)
    return MLPRollout(dynamics)
