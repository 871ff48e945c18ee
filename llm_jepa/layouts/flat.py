"""Layout `flat`: all sequences of a micro-batch one after another in one row, for variable-length flash attention.

Worked example, the conversation "a b c d", a source view "a b P" and a target view "a d", each in full:

    index               0  1  2  3  4  5  6  7  8
    token               a  b  c  d  a  b  P  a  d
    position id         0  1  2  3  0  1  2  0  1
    subtree end         4  4  4  4  7  7  7  9  9
    cumulative lengths  0, 4, 7, 9

No token is shared and none is padding. There is no mask: the kernel gets the bounds of the sequences, and the work for
each sequence depends on its own length alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from llm_jepa.layouts.base import Batch, Example
from llm_jepa.layouts.masks import padding_mask
from llm_jepa.layouts.rows import RowsLayout


class FlatLayout(RowsLayout):
    """The rows of `RowsLayout` joined into one without padding; `pad_to_multiple_of` adds a sequence of padding."""

    name = "flat"

    def lay_out(self, examples: Sequence[Example]) -> Batch:
        """Lay out rows, then remove their padding."""
        rows = super().lay_out(examples)
        is_token_P = padding_mask(rows.subtree_ends_RL).bool().flatten()
        moved_P = is_token_P.cumsum(0) - 1
        lengths = rows.subtree_ends_RL[:, 0].tolist()
        num_padding = -sum(lengths) % self.pad_to_multiple_of
        if num_padding:
            lengths.append(num_padding)

        def flat(values_RL: Tensor, padding: int) -> Tensor:
            tokens_T = values_RL.flatten()[is_token_P]
            return torch.nn.functional.pad(tokens_T, (0, num_padding), value=padding)[None]

        def moved(positions: Tensor) -> Tensor:
            return moved_P[positions].masked_fill(positions < 0, -1)

        mean_positions_QNT = rows.mean_positions_QNT
        ends = list(accumulate(lengths))
        return replace(
            rows,
            input_ids_RL=flat(rows.input_ids_RL, self.pad_token_id),
            slots_RL=flat(rows.slots_RL, 0),
            position_ids_RL=torch.cat([torch.arange(length) for length in lengths])[None],
            subtree_ends_RL=torch.tensor(ends).repeat_interleave(torch.tensor(lengths))[None],
            label_positions_M=moved_P[rows.label_positions_M],
            conversation_positions_C=moved_P[rows.conversation_positions_C],
            conversation_positions_NK=moved(rows.conversation_positions_NK),
            conversation_ends_N=moved_P[rows.conversation_ends_N],
            view_readouts_VN=moved_P[rows.view_readouts_VN],
            mean_positions_QNT=None if mean_positions_QNT is None else moved(mean_positions_QNT),
            cumulative_lengths_S=torch.tensor([0, *ends], dtype=torch.int32),
            longest_tokens=max(lengths),
        )
