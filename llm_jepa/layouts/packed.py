"""Layout `packed`: the sequences of an example in one row, as a trie that stores common prefixes once.

The trie is stored in preorder, so the descendants of token i are the tokens i + 1 .. subtree_end - 1, and one number
per token says which tokens may attend to it. Worked example, the conversation "a b c d", a source view that is its
prefix "a b" with one predictor token P, and a target view "a d":

    a - b - c - d        index         0  1  2  3  4  5
    |   \\- P             token         a  b  c  d  P  d
    \\- d                 position id   0  1  2  3  2  1
                         subtree end   6  5  4  4  5  6

P (index 4) may attend to a (0 <= 4 < 6), to b (1 <= 4 < 5) and to itself, not to c (4 < 4 fails).

Views that are encoded alone share little with the conversation. Attention grows with the square of a row's length:
such views in the conversation's row make it about four times as expensive, in a second row only twice. If that saves
more than the padding costs, a batch has two rows per example: the conversation with the views that fork off it late,
and the other views.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trl.data_utils import common_prefix_length

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts.base import Batch, Example, Layout, StoredExample, StoredRow
from llm_jepa.layouts.rows import RowsLayout


@dataclass
class _Branch:
    """A sequence's own tokens, after the first `shared` ones, which its parent branch stores."""

    sequence: TokenSequence
    parent: "_Branch | None" = None
    shared: int = 0
    children: list["_Branch"] = field(default_factory=list)
    start: int = 0

    def index_of(self, depth: int) -> int:
        """The index at which the token at a depth of this sequence is stored."""
        if depth < self.shared:
            assert self.parent is not None
            return self.parent.index_of(depth)
        return self.start + depth - self.shared


class PackedLayout(Layout):
    """The trie of the conversation and the views, in preorder, the conversation first: one row per example, or two.

    Args:
        pad_token_id, pad_to_multiple_of: As for every layout.
        break_even_tokens: Row length at which attention costs as much as the rest of the model. It decides between one
            row and two; None means always one. Of a Llama block of width d with 12 d^2 weights: 24 d^2 FLOPs per token
            for the weights and 4 d L for attention to all of L tokens, so L = 6 d.
    """

    name = "packed"

    def __init__(self, pad_token_id: int, pad_to_multiple_of: int | None = None, break_even_tokens: int | None = None):
        super().__init__(pad_token_id, pad_to_multiple_of)
        self.break_even_tokens = break_even_tokens

    @property
    def unshared(self) -> Layout:
        return RowsLayout(self.pad_token_id, self.pad_to_multiple_of)

    def store(self, example: Example) -> StoredExample:
        """All sequences in one row."""
        return _store(example, [0] * (1 + len(example.views)))

    def store_in_two_rows(self, example: Example) -> StoredExample:
        """One row of the conversation and the views that share half of their tokens with it, one of the others."""
        conversation = example.conversation
        outside = [2 * _shared_tokens(view, conversation) < len(view) for view in example.views]
        return _store(example, [0, *map(int, outside)])

    def lay_out(self, examples: Sequence[Example]) -> Batch:
        """Store every example in one row, or in two if that costs less, and pad the rows."""
        if self.break_even_tokens is None:
            return super().lay_out(examples)
        apart = [self.store_in_two_rows(example) for example in examples]
        if all(len(one.rows) == 1 for one in apart):
            return self.pad(examples, apart)
        together = [self.store(example) for example in examples]
        return self.pad(examples, min(together, apart, key=self._cost))

    def _cost(self, stored: Sequence[StoredExample]) -> int:
        """The cost of padded rows, in units of one token's attention to one token."""
        assert self.break_even_tokens is not None
        lengths = [len(row.token_ids) for one in stored for row in one.rows]
        padded = max(lengths) + -max(lengths) % self.pad_to_multiple_of
        return len(lengths) * padded * (self.break_even_tokens + padded)


def _store(example: Example, row_numbers: Sequence[int]) -> StoredExample:
    """A trie for each row, of the sequences that are put in it, grown sequence by sequence."""
    sequences = (example.conversation, *example.views)
    rows = []
    ends = [(0, 0)] * len(sequences)
    for row in range(max(row_numbers) + 1):
        members = [i for i, number in enumerate(row_numbers) if number == row]
        branches = _grow([sequences[i] for i in members])
        written = _Writer()
        for branch in branches:
            if branch.parent is None:
                written.write(branch)
        rows.append(written.row())
        for i, branch in zip(members, branches, strict=True):
            ends[i] = row, branch.index_of(len(branch.sequence) - 1)
    return StoredExample(rows, ends)


def _grow(sequences: Sequence[TokenSequence]) -> list[_Branch]:
    """Make a branch for each sequence; its parent is the earlier one with which it shares the most tokens."""
    branches: list[_Branch] = []
    for sequence in sequences:
        branch = _Branch(sequence)
        for other in branches:
            shared = _shared_tokens(sequence, other.sequence)
            if shared > branch.shared:
                branch.parent, branch.shared = other, shared
        if branch.parent is not None:
            branch.parent.children.append(branch)
        branches.append(branch)
    return branches


class _Writer:
    """Writes branches one after another and updates the subtree ends."""

    def __init__(self):
        self.token_ids: list[int] = []
        self.slots: list[int] = []
        self.position_ids: list[int] = []
        self.subtree_ends: list[int] = []

    def write(self, branch: _Branch) -> None:
        """Write a branch's own tokens, then its children, from the latest fork to the earliest."""
        length = len(branch.sequence)
        branch.start = len(self.token_ids)
        self.token_ids.extend(branch.sequence.token_ids[branch.shared :])
        self.slots.extend(branch.sequence.slots[branch.shared :])
        self.position_ids.extend(range(branch.shared, length))
        self.subtree_ends.extend([len(self.token_ids)] * (length - branch.shared))
        for child in sorted(branch.children, key=lambda child: -child.shared):
            self.write(child)
            # A child that shares `shared` tokens descends from every own token above that depth.
            for depth in range(branch.shared, child.shared):
                self.subtree_ends[branch.start + depth - branch.shared] = len(self.token_ids)

    def row(self) -> StoredRow:
        """The row written so far."""
        return StoredRow(self.token_ids, self.slots, self.position_ids, self.subtree_ends)


def _shared_tokens(one: TokenSequence, other: TokenSequence) -> int:
    """Number of leading tokens that two sequences have in common. Predictor tokens are equal if their slots are."""
    return min(
        common_prefix_length(list(one.token_ids), list(other.token_ids)),
        common_prefix_length(list(one.slots), list(other.slots)),
    )
