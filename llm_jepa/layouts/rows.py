"""Layout `rows`: every sequence is a row of its own. Slow, simple, correct for every architecture: the reference."""

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts.base import Example, Layout, StoredExample, StoredRow


class RowsLayout(Layout):
    """One row per sequence: the conversation, then the views."""

    name = "rows"

    def store(self, example: Example) -> StoredExample:
        """Place each sequence in a row; a sequence ends at the last index of its row."""
        sequences = (example.conversation, *example.views)
        ends = [(row, len(sequence) - 1) for row, sequence in enumerate(sequences)]
        return StoredExample([_stored(sequence) for sequence in sequences], ends)


def _stored(sequence: TokenSequence) -> StoredRow:
    length = len(sequence)
    return StoredRow(sequence.token_ids, sequence.slots, range(length), [length] * length)
