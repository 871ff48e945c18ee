"""The base class of layouts, which turn the sequences of examples into one batch of stored rows.

Legend: N examples, R stored rows, L tokens of the longest stored row, M labelled positions, C conversation tokens,
S bounds of consecutive sequences: 0, then the end of each. P flat positions: row * L + index. Q sequences of an
example, T tokens of the longest mean, K tokens of the longest conversation, D the model's width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from llm_jepa.data.views import IGNORED_LABEL, TokenSequence
from llm_jepa.layouts.masks import MaskForm


@dataclass(frozen=True)
class Example:
    """One row of the data: its conversation with labels, and the views of the forward.

    `views` holds the predicting view, then the predicted one, unless a separate forward without gradient encodes it or
    none does.
    """

    conversation: TokenSequence
    labels: Sequence[int]
    views: tuple[TokenSequence, ...]


@dataclass(frozen=True)
class StoredRow:
    """The tokens of one row of the batch, in stored order.

    Token j may attend to token i if and only if `i <= j < subtree_ends[i]` (see `llm_jepa.layouts.masks`).
    """

    token_ids: Sequence[int]
    slots: Sequence[int]
    position_ids: Sequence[int]
    subtree_ends: Sequence[int]


@dataclass(frozen=True)
class StoredExample:
    """The stored rows of an example, and the last token of each sequence: (row, index), the conversation's first.

    The conversation is in the first row, from index 0 on, without a gap.
    """

    rows: list[StoredRow]
    ends: list[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """The tensors of one micro-batch that the forward needs.

    `view_readouts_VN[v, n]` is the flat position of the readout of view v of example n. `conversation_ends_N[n]` is
    that of the last token of its conversation, and `conversation_positions_NK[n]` are those of all of them, padded
    with -1. `mean_positions_QNT` has the flat positions of the tokens whose mean is
    the embedding of a sequence, the conversation's first, and -1 for padding; None if every sequence is read at its
    last token. `num_tokens` counts the tokens that reach the model without padding.
    `cumulative_lengths_S` and `longest_tokens` are the bounds and the longest length of sequences that share a row
    (`flat`), for variable-length attention. They are computed on the host, since otherwise every layer would wait for
    the device.
    """

    input_ids_RL: Tensor
    slots_RL: Tensor
    position_ids_RL: Tensor
    subtree_ends_RL: Tensor
    label_positions_M: Tensor
    label_ids_M: Tensor
    conversation_positions_C: Tensor
    conversation_positions_NK: Tensor
    conversation_ends_N: Tensor
    view_readouts_VN: Tensor
    num_tokens: int
    mean_positions_QNT: Tensor | None = None
    cumulative_lengths_S: Tensor | None = None
    longest_tokens: int | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with a function applied to each tensor."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = function(value) if isinstance(value, Tensor) else value
        return Batch(**values)

    @property
    def unshared_form(self) -> MaskForm:
        """The mask form for sequences that share no tokens."""
        return MaskForm("padding" if self.cumulative_lengths_S is None else "positions")

    def backbone_inputs(self, form: MaskForm) -> dict[str, Any]:
        """Arguments of the backbone's forward, with the mask in a form that the model supports."""
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


@dataclass(frozen=True)
class LaidOut:
    """What the model computes of a micro-batch, with or without views.

    It goes through a `DataLoader` like a tensor: torch calls `pin_memory`, accelerate calls `to`.

    Attributes:
        batch: Sequences that are computed with gradient: the conversations, and the views if there are any.
        detached: Targets that are computed on their own, without gradient; None if there are none.
        target_ids_NT: Tokens of targets that the model does not compute, padded with -1; None if there are none.
        target_ND: Embeddings of the detached targets, where they have been computed before; None otherwise.
    """

    batch: Batch
    detached: Batch | None = None
    target_ids_NT: Tensor | None = None
    target_ND: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "LaidOut":
        """The same with a function applied to each tensor."""
        return LaidOut(
            self.batch.map(function),
            None if self.detached is None else self.detached.map(function),
            None if self.target_ids_NT is None else function(self.target_ids_NT),
            None if self.target_ND is None else function(self.target_ND),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "LaidOut":
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "LaidOut":
        """The same in page-locked memory."""
        return self.map(Tensor.pin_memory)

    @property
    def detached_tokens(self) -> int:
        """Tokens that are computed without gradient, padding left out."""
        return 0 if self.detached is None else self.detached.num_tokens

    @property
    def uncomputed_targets(self) -> int:
        """Targets that the model does not compute."""
        return 0 if self.target_ids_NT is None else len(self.target_ids_NT)

    @property
    def uncomputed_target_tokens(self) -> int | Tensor:
        """Their tokens, counted on their device."""
        return 0 if self.target_ids_NT is None else (self.target_ids_NT >= 0).sum()

    @property
    def num_positions(self) -> int:
        """Positions that the backbone computes, padding and both forwards included."""
        return sum(part.input_ids_RL.numel() for part in (self.batch, self.detached) if part is not None)


class Layout(ABC):
    """Lays out the sequences of examples as one batch. Every layout gives the same embeddings, loss and gradients."""

    name: ClassVar[str]

    @property
    def unshared(self) -> "Layout":
        """The layout for examples without views: one row for each sequence, or one row for all (`flat`)."""
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
        """Pad the rows of stored examples to one length and make the batch."""
        rows = [row for one in stored for row in one.rows]
        length = max(len(row.token_ids) for row in rows)
        length += -length % self.pad_to_multiple_of
        label_positions: list[int] = []
        label_ids: list[int] = []
        conversation_positions: list[list[int]] = []
        conversation_ends = []
        readouts = []
        read: list[list[list[int]]] = []
        first_row = 0
        for example, one in zip(examples, stored, strict=True):
            offset = first_row * length
            conversation_positions.append(list(range(offset, offset + len(example.conversation))))
            # The hidden state at j predicts the label at j + 1.
            for j, label in enumerate(example.labels[1:]):
                if label != IGNORED_LABEL:
                    label_positions.append(offset + j)
                    label_ids.append(label)
            conversation_end, *view_ends = [(first_row + row) * length + index for row, index in one.ends]
            conversation_ends.append(conversation_end)
            readouts.append(view_ends)
            read.append([])
            for sequence, (row, index) in zip((example.conversation, *example.views), one.ends, strict=True):
                start = (first_row + row) * length
                read[-1].append([start + i for i in _indices_read(one.rows[row], index, sequence.mean_start)])
            first_row += len(one.rows)
        return Batch(
            input_ids_RL=_padded([row.token_ids for row in rows], length, self.pad_token_id),
            slots_RL=_padded([row.slots for row in rows], length, 0),
            position_ids_RL=_padded([row.position_ids for row in rows], length, 0),
            subtree_ends_RL=_padded([row.subtree_ends for row in rows], length, None),
            label_positions_M=torch.tensor(label_positions, dtype=torch.long),
            label_ids_M=torch.tensor(label_ids, dtype=torch.long),
            conversation_positions_C=torch.tensor(list(chain(*conversation_positions)), dtype=torch.long),
            conversation_positions_NK=_padded(conversation_positions, max(map(len, conversation_positions)), -1),
            conversation_ends_N=torch.tensor(conversation_ends, dtype=torch.long),
            view_readouts_VN=torch.tensor(readouts, dtype=torch.long).T.contiguous(),
            num_tokens=sum(len(row.token_ids) for row in rows),
            mean_positions_QNT=_padded_positions(read),
        )


def plain_sequence(token_ids: Sequence[int], mean_start: int | None = None) -> TokenSequence:
    """A sequence without predictor tokens."""
    return TokenSequence(tuple(token_ids), (0,) * len(token_ids), mean_start)


def lay_out_conversations(rows: Sequence[Mapping[str, Any]], layout: "Layout") -> LaidOut:
    """The conversations of prepared rows without views."""
    examples = [Example(plain_sequence(row["input_ids"]), row["labels"], ()) for row in rows]
    return LaidOut(layout.unshared.lay_out(examples))


def _indices_read(row: StoredRow, end: int, mean_start: int | None) -> list[int]:
    """The indices of a stored row at which a sequence is read out that ends at one of them.

    A sequence is what its last token may attend to. Worked example, the target view "a d" of the module `packed`: it
    ends at index 5, and of the subtree ends 6 5 4 4 5 6 those of the indices 0 (a) and 5 (d) are above 5. With
    `mean_start=1` it is read out at 5 alone.
    """
    if mean_start is None:
        return [end]
    return [i for i in range(end + 1) if row.subtree_ends[i] > end and row.position_ids[i] >= mean_start]


def _padded_positions(read: list[list[list[int]]]) -> Tensor | None:
    """Positions by example, sequence and token -> a tensor by sequence, example and token, padded with -1.

    None if all are single tokens.
    """
    length = max(len(positions) for sequences in read for positions in sequences)
    if length == 1:
        return None
    padded = [[positions + [-1] * (length - len(positions)) for positions in sequences] for sequences in read]
    return torch.tensor(padded).transpose(0, 1).contiguous()


def _padded(rows: Sequence[Sequence[int]], length: int, value: int | None) -> Tensor:
    """Right-pad rows with `value`; None means index + 1, the subtree end of a token that attends to itself alone."""
    filled = torch.arange(1, length + 1).repeat(len(rows), 1)
    if value is not None:
        filled.fill_(value)
    for row, tokens in zip(filled, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return filled
