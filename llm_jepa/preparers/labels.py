"""Rows of a set of labelled texts: the target is the label's word, the choices are all words."""

from collections.abc import Callable, Sequence

from llm_jepa.preparers.records import IncompleteRecordError, Record
from llm_jepa.preparers.splits import Row


def labelled_row(words: Sequence[str]) -> Callable[[Record], Row]:
    """What makes a row of a record with the columns `text` and `label`, a number that counts `words` from 0."""

    def to_row(record: Record) -> Row:
        label = record.column("label")
        if label not in range(len(words)):
            raise IncompleteRecordError(f"the column 'label' holds {label!r:.60}, not 0 to {len(words) - 1}.")
        return {"source": record.text("text"), "target": words[label], "choices": list(words)}

    return to_row
