"""The attention mask of a trie: one predicate, and the mask forms of the attention back-ends.

Legend: B rows, L tokens of a row, Q queries, K keys.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

MaskKind = Literal["padding", "positions", "plain", "windowed", "by_layer_type"]
MaskValues = Literal["boolean", "additive", "block"]
LayerMask = Tensor | BlockMask
AttentionMask = LayerMask | dict[str, LayerMask] | None
MaskFunction = Callable[[Any, Any, Any, Any], Tensor]


def may_attend(query_Q: Tensor, key_K: Tensor, subtree_end_K: Tensor) -> Tensor:
    """Whether a query of a trie in preorder may attend to a key: the key is the query or its ancestor.

        key <= query < subtree_end[key]

    Args:
        query_Q: Indices of the queries in the row, broadcastable against the keys.
        key_K: Indices of the keys.
        subtree_end_K: One past the last descendant of each key.
    """
    return (key_K <= query_Q) & (query_Q < subtree_end_K)


def within_window(query_position_Q: Tensor, key_position_K: Tensor, window_tokens: int) -> Tensor:
    """Whether a key is in a query's sliding window, measured along the branch by position id, not by index.

    Args:
        query_position_Q: Position ids of the queries, broadcastable against the keys'.
        key_position_K: Position ids of the keys.
        window_tokens: Number of tokens that a query sees, itself included.
    """
    return query_position_Q - key_position_K < window_tokens


def mask_function(subtree_ends_BL: Tensor, position_ids_BL: Tensor, window_tokens: int | None) -> MaskFunction:
    """The predicate of whole rows as FlexAttention's `mask_mod(row, head, query, key)`, on indices that broadcast."""

    def allowed(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        may = may_attend(query, key, subtree_ends_BL[row, key])
        if window_tokens is None:
            return may
        return may & within_window(position_ids_BL[row, query], position_ids_BL[row, key], window_tokens)

    return allowed


def tree_mask(subtree_ends_BL: Tensor) -> Tensor:
    """The predicate for whole rows: allowed_B1LL, True where the row's token may attend to the column's."""
    return _evaluated(mask_function(subtree_ends_BL, subtree_ends_BL, None), subtree_ends_BL)


@dataclass(frozen=True)
class MaskForm:
    """The form of the mask that a model supports.

    Attributes:
        kind: `padding`: a two-dimensional padding mask, for rows of one sequence each. `positions`: no mask, for one
            row of several sequences, whose bounds follow from lengths and position ids. `plain`: one mask for all
            layers. `windowed`: the same with the sliding window applied. `by_layer_type`: a dict of one mask per
            layer type.
        values: Of a mask with four dimensions. `boolean`. `additive`: 0 and the lowest float for True and False, as
            eager attention requires. `block`: FlexAttention's block mask, which on a GPU stores nothing per pair of
            tokens.
        window_tokens: The sliding window, or None.
        layer_types: The layer types of the dict.
    """

    kind: MaskKind
    values: MaskValues = "boolean"
    window_tokens: int | None = None
    layer_types: Sequence[str] = ()

    def build(self, subtree_ends_BL: Tensor, position_ids_BL: Tensor) -> AttentionMask:
        """The `attention_mask` argument of the model's forward. Its size is linear in B."""
        if self.kind == "padding":
            return padding_mask(subtree_ends_BL)
        if self.kind == "positions":
            return None
        if self.kind != "by_layer_type":
            return self._mask(subtree_ends_BL, position_ids_BL, self.window_tokens)
        windows = {name: self.window_tokens if "sliding" in name else None for name in self.layer_types}
        masks = {window: self._mask(subtree_ends_BL, position_ids_BL, window) for window in set(windows.values())}
        return {name: masks[window] for name, window in windows.items()}

    def _mask(self, subtree_ends_BL: Tensor, position_ids_BL: Tensor, window_tokens: int | None) -> LayerMask:
        allowed = mask_function(subtree_ends_BL, position_ids_BL, window_tokens)
        if self.values == "block":
            return _block_mask(allowed, subtree_ends_BL)
        allowed_B1LL = _evaluated(allowed, subtree_ends_BL)
        if self.values == "boolean":
            return allowed_B1LL
        return torch.zeros_like(allowed_B1LL, dtype=torch.float32).masked_fill_(
            ~allowed_B1LL, torch.finfo(torch.float32).min
        )


def _evaluated(allowed: MaskFunction, subtree_ends_BL: Tensor) -> Tensor:
    """Evaluate a predicate for every row and pair of tokens: allowed_B1LL."""
    num_rows, length = subtree_ends_BL.shape
    row_B = torch.arange(num_rows, device=subtree_ends_BL.device)
    index_L = torch.arange(length, device=subtree_ends_BL.device)
    head = torch.zeros((), dtype=torch.long, device=subtree_ends_BL.device)
    return allowed(row_B[:, None, None], head, index_L[None, :, None], index_L[None, None, :])[:, None]


def _block_mask(allowed: MaskFunction, subtree_ends_BL: Tensor) -> BlockMask:
    num_rows, length = subtree_ends_BL.shape
    device = subtree_ends_BL.device
    # The compiled function reduces the predicate to blocks on the fly; the uncompiled one stores all pairs first.
    create = create_block_mask if device.type == "cpu" else _compiled_create_block_mask()
    return create(allowed, B=num_rows, H=None, Q_LEN=length, KV_LEN=length, device=device)


@functools.cache
def _compiled_create_block_mask() -> Callable[..., BlockMask]:
    return torch.compile(create_block_mask, dynamic=True)  # every batch has another length


def padding_mask(subtree_ends_BL: Tensor) -> Tensor:
    """1 for tokens, 0 for padding, for rows of one sequence each, whose length is its first token's subtree end."""
    index_L = torch.arange(subtree_ends_BL.shape[1], device=subtree_ends_BL.device)
    return (index_L[None, :] < subtree_ends_BL[:, :1]).long()
