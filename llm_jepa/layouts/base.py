"""What a layout is: the sequences of examples -> one batch of stored rows.

Legend: N examples, R stored rows, L tokens of the longest stored row, M labelled positions, C conversation tokens,
S bounds of sequences that lie one after another: 0, then the end of each.
A position is flat: row * L + index.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from llm_jepa.data.views import IGNORED_LABEL, TokenSequence
from llm_jepa.layouts.masks import MaskForm


@dataclass(frozen=True)
class Example:
    """One row of the data: its conversation with labels, and the views that take part in the forward.

    `views` holds the predicting view, then the predicted one unless that one is encoded without gradient elsewhere.
    """

    conversation: TokenSequence
    labels: Sequence[int]
    views: tuple[TokenSequence, ...]


@dataclass(frozen=True)
class StoredRow:
    """Tokens as they lie in one row of the batch.

    Token j may attend to token i exactly if `i <= j < subtree_ends[i]` (see `llm_jepa.layouts.masks`).
    """

    token_ids: Sequence[int]
    slots: Sequence[int]
    position_ids: Sequence[int]
    subtree_ends: Sequence[int]


@dataclass(frozen=True)
class StoredExample:
    """The stored rows of an example, and where each sequence ends: (row, index) of the conversation, then the views.

    The conversation lies in the first row, from index 0 on, without a gap.
    """

    rows: list[StoredRow]
    ends: list[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """Tensors of one micro-batch, all that the forward needs.

    `view_readouts_VN[v, n]` is the flat position of the readout of view v of example n, `conversation_ends_N[n]` that
    of the last token of its conversation; `num_tokens` counts the tokens that reach the model, padding left out.
    `cumulative_lengths_S` and `longest_tokens` are the bounds and the longest of sequences that share a row (`flat`),
    as variable-length attention takes them; made here, on the host, since every layer would else ask the device.
    """

    input_ids_RL: Tensor
    slots_RL: Tensor
    position_ids_RL: Tensor
    subtree_ends_RL: Tensor
    label_positions_M: Tensor
    label_ids_M: Tensor
    conversation_positions_C: Tensor
    conversation_ends_N: Tensor
    view_readouts_VN: Tensor
    num_tokens: int
    cumulative_lengths_S: Tensor | None = None
    longest_tokens: int | None = None

    @property
    def unshared_form(self) -> MaskForm:
        """The form of the mask where every sequence stands by itself."""
        return MaskForm("padding" if self.cumulative_lengths_S is None else "positions")

    def backbone_inputs(self, form: MaskForm) -> dict[str, Any]:
        """Arguments of the backbone's forward, with the mask in the form that the model takes."""
        inputs: dict[str, Any] = {
            "input_ids": self.input_ids_RL,
            "attention_mask": form.build(self.subtree_ends_RL, self.position_ids_RL),
        }
        if form.kind != "padding":
            inputs["position_ids"] = self.position_ids_RL
        if self.cumulative_lengths_S is not None:
            inputs |= dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), self.cumulative_lengths_S)
            inputs |= dict.fromkeys(("max_length_q", "max_length_k"), self.longest_tokens)
        return inputs


class Layout(ABC):
    """Lays the sequences of examples out as one batch. Every layout gives the same embeddings, loss and gradients."""

    name: ClassVar[str]

    @property
    def unshared(self) -> "Layout":
        """The layout for sequences that share nothing, without views: each a row, or all in one (`flat`)."""
        return self

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None = None):
        self.pad_token_id = pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of or 1

    @abstractmethod
    def store(self, example: Example) -> StoredExample:
        """Place the sequences of one example in rows."""

    def lay_out(self, examples: Sequence[Example]) -> Batch:
        """Store every example and pad the rows to one length."""
        return self.pad(examples, [self.store(example) for example in examples])

    def pad(self, examples: Sequence[Example], stored: Sequence[StoredExample]) -> Batch:
        """The batch of stored examples, their rows padded to one length."""
        rows = [row for one in stored for row in one.rows]
        length = max(len(row.token_ids) for row in rows)
        length += -length % self.pad_to_multiple_of
        label_positions: list[int] = []
        label_ids: list[int] = []
        conversation_positions: list[int] = []
        conversation_ends = []
        readouts = []
        first_row = 0
        for example, one in zip(examples, stored, strict=True):
            offset = first_row * length
            conversation_positions.extend(range(offset, offset + len(example.conversation)))
            # The hidden state at j predicts the label at j + 1.
            for j, label in enumerate(example.labels[1:]):
                if label != IGNORED_LABEL:
                    label_positions.append(offset + j)
                    label_ids.append(label)
            conversation_end, *view_ends = [(first_row + row) * length + index for row, index in one.ends]
            conversation_ends.append(conversation_end)
            readouts.append(view_ends)
            first_row += len(one.rows)
        return Batch(
            input_ids_RL=_padded([row.token_ids for row in rows], length, self.pad_token_id),
            slots_RL=_padded([row.slots for row in rows], length, 0),
            position_ids_RL=_padded([row.position_ids for row in rows], length, 0),
            subtree_ends_RL=_padded([row.subtree_ends for row in rows], length, None),
            label_positions_M=torch.tensor(label_positions, dtype=torch.long),
            label_ids_M=torch.tensor(label_ids, dtype=torch.long),
            conversation_positions_C=torch.tensor(conversation_positions, dtype=torch.long),
            conversation_ends_N=torch.tensor(conversation_ends, dtype=torch.long),
            view_readouts_VN=torch.tensor(readouts, dtype=torch.long).T.contiguous(),
            num_tokens=sum(len(row.token_ids) for row in rows),
        )


def _padded(rows: Sequence[Sequence[int]], length: int, value: int | None) -> Tensor:
    """Right-padded rows; with no value, a padding token is its own subtree: index + 1, so it attends to itself."""
    filled = torch.arange(1, length + 1).repeat(len(rows), 1)
    if value is not None:
        filled.fill_(value)
    for row, tokens in zip(filled, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return filled
