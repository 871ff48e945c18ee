"""Digests of the rows of a split, and the rows that two splits share."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.prompts import Prompt
from llm_jepa.data.rows import AnyDataset, has_pairs, is_tokenised, to_rows
from llm_jepa.data.view_pairs import expand_rows

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource

Key = bytes
"""A row's digest: of its source and target, or of its text or tokens where it has none."""


@dataclass(frozen=True)
class SharedRows:
    """Rows of one split whose source and target are in another split too.

    Attributes:
        split, other: The names of the two splits; the rows are counted in `split`.
        num_shared, num_rows: How many rows are shared, of how many.
        first: Index of the first shared row.
    """

    split: str
    other: str
    num_shared: int
    num_rows: int
    first: int

    @property
    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"{self.num_shared} of the {self.num_rows} rows of `{self.split}` are in `{self.other}` too (the first is "
            f"row {self.first})."
        )


def row_keys(source: "AnySource", split: str, mapping: ColumnMapping, text_field: str) -> list[Key]:
    """The digest of each row of a split: of its source and target, or of its text or tokens where it has none."""
    dataset, mapping = load_split(source, split), mapping.of_conversation()
    if is_tokenised(dataset):
        return [digest(row["input_ids"]) for row in dataset]
    if not has_pairs(dataset, mapping):
        return [digest(_words(str(row.get(text_field)))) for row in dataset]
    return pair_keys(dataset, mapping)


def pair_keys(dataset: AnyDataset, mapping: ColumnMapping, has_chat_template: bool = True) -> list[Key]:
    """The digest of each row's conversation, where rows have a source and a target."""
    mapping = mapping.of_conversation()
    rows = to_rows(expand_rows(dataset, mapping), mapping, has_chat_template)
    return [pair_key(row["prompt"], row["source"], row["target"]) for row in rows]


def pair_key(prompt: Prompt, source: str, target: str) -> Key:
    """The digest of a source and a target, and of the turns before where there are some: "Thanks!" -> "Welcome!" ends
    many conversations.

    How words are spaced makes no other pair, nor does a system prompt.
    """
    turns = [] if isinstance(prompt, str) else [turn for turn in prompt if turn["role"] != "system"]
    told = [[turn["role"], _words(str(turn["content"]))] for turn in turns] if len(turns) > 1 else []
    return digest([told, _words(source), _words(target)])


def _words(text: str) -> str:
    """`" a  b\\n"` -> `"a b"`."""
    return " ".join(text.split())


def digest(content: Any) -> Key:
    """A digest of content that JSON can hold, and of paths."""
    return hashlib.blake2b(json.dumps(content, default=str).encode(), digest_size=16).digest()


def fingerprint(keys: Iterable[Key]) -> str:
    """One digest of many rows in their order, in hexadecimal digits."""
    whole = hashlib.blake2b(digest_size=16)
    for key in keys:
        whole.update(key)
    return whole.hexdigest()


def shared_rows(splits: dict[str, list[Key]]) -> list[SharedRows]:
    """The overlaps of the splits, given from the first (trained on) to the last (tested on).

    Example: train [a, b, c] and test [c, d, a] share two of the three rows of test; the first is row 0.
    """
    found = []
    names = list(splits)
    for place, name in enumerate(names):
        for earlier in names[:place]:
            others = set(splits[earlier])
            indices = [index for index, key in enumerate(splits[name]) if key in others]
            if indices:
                found.append(SharedRows(name, earlier, len(indices), len(splits[name]), indices[0]))
    return found
