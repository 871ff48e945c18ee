"""Layout `packed`: all sequences of an example in one row, as a trie that stores common prefixes once.

The trie lies in preorder, so that the descendants of token i are the tokens i + 1 .. subtree_end - 1, and one number
per token says who may attend to it. Worked example, the conversation "a b c d", a source view that is its prefix
"a b" with one predictor token P, and a target view "a d":

    a - b - c - d        index         0  1  2  3  4  5
    |   \\- P             token         a  b  c  d  P  d
    \\- d                 position id   0  1  2  3  2  1
                         subtree end   6  5  4  4  5  6

P (index 4) may attend to a (0 <= 4 < 6), to b (1 <= 4 < 5) and to itself, not to c (4 < 4 fails).
"""

from dataclasses import dataclass, field

from trl.data_utils import common_prefix_length

from llm_jepa.layouts.base import Example, Layout, StoredExample, StoredRow
from llm_jepa.layouts.rows import RowsLayout
from llm_jepa.views import TokenSequence


@dataclass
class _Branch:
    """A sequence's own tokens: those after the first `shared` ones, which its parent branch stores."""

    sequence: TokenSequence
    parent: "_Branch | None" = None
    shared: int = 0
    children: list["_Branch"] = field(default_factory=list)
    start: int = 0

    def index_of(self, depth: int) -> int:
        """Where the token at a depth of this sequence is stored."""
        if depth < self.shared:
            assert self.parent is not None
            return self.parent.index_of(depth)
        return self.start + depth - self.shared


class PackedLayout(Layout):
    """One row per example: the trie of the conversation and the views, in preorder, the conversation first."""

    name = "packed"

    @property
    def unshared(self) -> Layout:
        return RowsLayout(self.pad_token_id, self.pad_to_multiple_of)

    def store(self, example: Example) -> StoredExample:
        """Grow the trie sequence by sequence, then write it down in preorder."""
        branches: list[_Branch] = []
        roots: list[_Branch] = []
        for sequence in (example.conversation, *example.views):
            branch = _Branch(sequence)
            for other in branches:
                shared = _shared_tokens(sequence, other.sequence)
                if shared > branch.shared:
                    branch.parent, branch.shared = other, shared
            (branch.parent.children if branch.parent else roots).append(branch)
            branches.append(branch)
        written = _Writer()
        for root in roots:
            written.write(root)
        ends = [(0, branch.index_of(len(branch.sequence) - 1)) for branch in branches]
        return StoredExample([written.row()], ends)


class _Writer:
    """Writes branches one after another and keeps the subtree ends true."""

    def __init__(self):
        self.token_ids: list[int] = []
        self.slots: list[int] = []
        self.position_ids: list[int] = []
        self.subtree_ends: list[int] = []

    def write(self, branch: _Branch) -> None:
        """Write a branch's own tokens, then its children, those that fork off last first."""
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
        """What has been written."""
        return StoredRow(self.token_ids, self.slots, self.position_ids, self.subtree_ends)


def _shared_tokens(one: TokenSequence, other: TokenSequence) -> int:
    """Number of leading tokens that two sequences have in common, predictor tokens told apart by their slot."""
    return min(
        common_prefix_length(list(one.token_ids), list(other.token_ids)),
        common_prefix_length(list(one.slots), list(other.slots)),
    )
