"""Who may attend to whom: one predicate, and the forms in which attention back-ends take it.

Legend: B rows, L tokens of a row, Q queries, K keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MaskKind = Literal["padding", "plain", "windowed", "by_layer_type"]
AttentionMask = Tensor | dict[str, Tensor] | None


def may_attend(query_Q: Tensor, key_K: Tensor, subtree_end_K: Tensor) -> Tensor:
    """Whether a query may attend to a key of a trie in preorder: the key is its ancestor or itself.

        key <= query < subtree_end[key]

    Args:
        query_Q: Indices of the queries in the row, broadcastable against the keys.
        key_K: Indices of the keys.
        subtree_end_K: One past the last descendant of each key.
    """
    return (key_K <= query_Q) & (query_Q < subtree_end_K)


def tree_mask(subtree_ends_BL: Tensor) -> Tensor:
    """The predicate for whole rows: allowed_B1LL, True where the row's token may attend to the column's."""
    index_L = torch.arange(subtree_ends_BL.shape[1], device=subtree_ends_BL.device)
    return may_attend(index_L[None, :, None], index_L[None, None, :], subtree_ends_BL[:, None, :])[:, None]


def within_window(position_ids_BL: Tensor, window_tokens: int) -> Tensor:
    """Sliding window along a branch, by position id and not by index: near_B1LL, True if fewer tokens lie between."""
    distance_BLL = position_ids_BL[:, :, None] - position_ids_BL[:, None, :]
    return (distance_BLL < window_tokens)[:, None]


@dataclass(frozen=True)
class MaskForm:
    """The form in which one model takes the mask.

    Attributes:
        kind: `padding`, a two-dimensional padding mask, for rows that hold one sequence each; `plain`, one mask for
            all layers; `windowed`, the same with the sliding window built in; `by_layer_type`, a dict with a mask per
            layer type.
        additive: 0 and the lowest float in place of True and False, as eager attention wants it.
        window_tokens: The sliding window, where there is one.
        layer_types: The layer types of the dict.
    """

    kind: MaskKind
    additive: bool = False
    window_tokens: int | None = None
    layer_types: Sequence[str] = ()

    def build(self, subtree_ends_BL: Tensor, position_ids_BL: Tensor) -> AttentionMask:
        """The `attention_mask` argument of the model's forward."""
        if self.kind == "padding":
            return padding_mask(subtree_ends_BL)
        allowed_B1LL = tree_mask(subtree_ends_BL)
        if self.kind == "plain":
            return self._finished(allowed_B1LL)
        assert self.window_tokens is not None
        windowed_B1LL = allowed_B1LL & within_window(position_ids_BL, self.window_tokens)
        if self.kind == "windowed":
            return self._finished(windowed_B1LL)
        return {
            name: self._finished(windowed_B1LL if "sliding" in name else allowed_B1LL) for name in self.layer_types
        }

    def _finished(self, allowed_B1LL: Tensor) -> Tensor:
        if not self.additive:
            return allowed_B1LL
        return torch.zeros_like(allowed_B1LL, dtype=torch.float32).masked_fill_(
            ~allowed_B1LL, torch.finfo(torch.float32).min
        )


def padding_mask(subtree_ends_BL: Tensor) -> Tensor:
    """1 for tokens and 0 for padding, of rows that hold one sequence each: all its tokens end where the first does."""
    index_L = torch.arange(subtree_ends_BL.shape[1], device=subtree_ends_BL.device)
    return (index_L[None, :] < subtree_ends_BL[:, :1]).long()
