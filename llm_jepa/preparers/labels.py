"""Rows of labelled texts: the target is the word of the label, and the choices are all words."""

from collections.abc import Callable, Sequence

from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row


def labelled_row(words: Sequence[str]) -> Callable[[Record], Row]:
    """A function that makes a row of a record with the columns `text` and `label`, an index into `words`."""

    def to_row(record: Record) -> Row:
        word = words[record.choice("label", len(words))]
        return {"source": record.text("text"), "target": word, "choices": list(words)}

    return to_row
