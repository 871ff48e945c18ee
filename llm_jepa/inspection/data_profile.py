"""Profiles a data set in bounded memory: its fields, its duplicates, and rows without two views."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import stream_rows
from llm_jepa.data.rows import row_maker
from llm_jepa.data.turns import target_turn_indices, to_messages, turn_column, turn_keys
from llm_jepa.data.unread_columns import unread_columns
from llm_jepa.data.view_pairs import pairs_of_turns
from llm_jepa.inspection.mapping_proposal import (
    TURN_FIELD_KINDS,
    FieldKind,
    Proposal,
    pair_beside_conversation,
    propose_for_document,
    propose_mapping,
    with_own_views,
    with_unread_columns,
)

if TYPE_CHECKING:
    from llm_jepa.data.source import AnySource

HEAD_ROWS = 100
"""Number of rows from which the mapping is proposed."""
MAX_COLUMNS = 200
"""Limit of profiled fields; rows with keys of their own could have any number."""
MAX_SHOWN_REFUSALS = 5
MAX_HASHES = 2**18
VALUE_CHARACTERS = 60
TURN_KINDS: dict[tuple[str, str], FieldKind] = {
    ("role", "content"): "chat messages",
    ("from", "value"): "ShareGPT turns",
}
"""Keys of a speaker and of a text -> kind of a list of such turns. Those of any other keys are just turns."""


@dataclass
class FieldProfile:
    """The values at one path of the rows.

    Attributes:
        types: Type -> number of rows with it; null, blank, empty and missing values are not counted.
        num_texts: Rows with a text of any kind; `total_characters` and `max_characters` are theirs.
        examples: The first distinct values, shortened.
    """

    types: Counter[str] = field(default_factory=Counter)
    num_texts: int = 0
    total_characters: int = 0
    max_characters: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, value: Any, num_examples: int) -> None:
        """Add one row's value."""
        kind = field_kind(value)
        if value is None or value in ([], {}) or (kind == "text" and not value.strip()):
            return
        self.types[kind if kind not in ("other", "number") else type(value).__name__] += 1
        if isinstance(value, str):
            self.num_texts += 1
            self.total_characters += len(value)
            self.max_characters = max(self.max_characters, len(value))
        if len(self.examples) < num_examples:
            shown = shorten(value)
            if shown not in self.examples:
                self.examples.append(shown)

    @property
    def kind(self) -> FieldKind:
        """The kind of all values if they share one; else `text and others`, or `other` without texts."""
        if self.types and self.types.keys() <= {"int", "float", "bool"}:
            return "number"
        mixed: FieldKind = "text and others" if "text" in self.types else "other"
        return next((kind for kind in get_args(FieldKind) if self.types.keys() == {kind}), mixed)


class DuplicateCounter:
    """Counts repeated items in bounded memory.

    The count is exact up to `max_hashes` distinct items. Beyond that it is estimated from the items whose hash ends in
    a growing number of zero bits, a random share of the distinct items (Wegman's adaptive sampling).
    """

    def __init__(self, max_hashes: int = MAX_HASHES):
        self.max_hashes = max_hashes
        self._zero_bits = 0
        self._counts: dict[int, int] = {}

    def add(self, item: Any) -> None:
        """Add one item; values that JSON cannot hold are hashed as text."""
        text = json.dumps(item, sort_keys=True, default=str)
        hashed = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
        if not self._is_kept(hashed):
            return
        self._counts[hashed] = self._counts.get(hashed, 0) + 1
        while len(self._counts) > self.max_hashes:
            self._zero_bits += 1
            self._counts = {hashed: count for hashed, count in self._counts.items() if self._is_kept(hashed)}

    def _is_kept(self, hashed: int) -> bool:
        return hashed % (1 << self._zero_bits) == 0

    @property
    def is_estimate(self) -> bool:
        return self._zero_bits > 0

    @property
    def num_duplicates(self) -> int:
        """Number of items that equal an earlier one."""
        return (sum(self._counts.values()) - len(self._counts)) << self._zero_bits


@dataclass
class DataProfile:
    """The profile of the rows read.

    Attributes:
        proposal: The proposed mapping of fields to views.
        num_rows: Rows read.
        is_partial: Whether reading stopped at the limit of rows.
        fields: Path -> profile of its values; a field inside a column has its own path.
        num_refused: Rows of which the proposed mapping makes no two views.
        refusals: Index and reason of the first of them.
        duplicate_rows, duplicate_pairs: Counts of repeated rows, and of repeated pairs of views.
    """

    proposal: Proposal
    num_rows: int = 0
    is_partial: bool = False
    fields: dict[str, FieldProfile] = field(default_factory=dict)
    num_refused: int = 0
    refusals: list[tuple[int, str]] = field(default_factory=list)
    duplicate_rows: DuplicateCounter = field(default_factory=DuplicateCounter)
    duplicate_pairs: DuplicateCounter = field(default_factory=DuplicateCounter)

    @property
    def is_refused(self) -> bool:
        """Whether training would refuse every row."""
        return 0 < self.num_refused == self.num_rows


def profile_data(script: "AnySource", max_rows: int | None = None, num_examples: int = 2) -> DataProfile:
    """Profile the training split.

    Args:
        script: Gives `dataset_name`, `dataset_config` and `dataset_train_split`; the data are streamed.
        max_rows: Number of rows to read; None for all.
        num_examples: Number of examples to keep of each field.

    Raises:
        ValueError: The data cannot be read. The message names the line that is not UTF-8 or not JSON.
    """
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` is {max_rows}; it must be at least 1.")
    rows = stream_rows(script, script.dataset_train_split, max_rows)
    head = list(islice(rows, HEAD_ROWS))
    columns = list(dict.fromkeys(name for row in head for name in row))
    kinds = {path: profile.kind for path, profile in _fields(head, num_examples).items()}
    proposal = _document_proposal(script, head) or _proposal(columns, kinds, head)
    profile = DataProfile(_with_unread(proposal, columns))
    to_rows = _maker(columns, profile.proposal)
    for row in chain(head, rows):
        _add_fields(profile.fields, row, num_examples)
        profile.duplicate_rows.add(row)
        if to_rows is not None:
            try:
                for made in to_rows({name: row.get(name) for name in columns}):
                    profile.duplicate_pairs.add(_views(made))
            except ValueError as error:
                profile.num_refused += 1
                if len(profile.refusals) < MAX_SHOWN_REFUSALS:
                    profile.refusals.append((profile.num_rows, str(error)))
        profile.num_rows += 1
    profile.is_partial = profile.num_rows == max_rows
    return profile


def _document_proposal(script: "AnySource", head: list[dict[str, Any]]) -> Proposal | None:
    file = Path(str(script.dataset_name))
    return propose_for_document(head[0], file) if len(head) == 1 and file.suffix == ".json" else None


def _proposal(columns: list[str], kinds: dict[str, FieldKind], head: list[dict[str, Any]]) -> Proposal:
    proposal = propose_mapping(columns, kinds, any(map(_ends_unanswered, head)))
    is_conversation = proposal.has_views and not proposal.settings
    pair = pair_beside_conversation(kinds) if is_conversation else None
    if pair is None or not any(_differ_from_turns(row, columns, pair) for row in head):
        return proposal
    return with_own_views(proposal, *pair)


def _with_unread(proposal: Proposal, columns: list[str]) -> Proposal:
    """The proposal, in doubt if it leaves columns out that other toolkits read."""
    unread = unread_columns(columns, ColumnMapping(**proposal.settings)) if proposal.has_views else []
    return with_unread_columns(proposal, unread) if unread else proposal


def _differ_from_turns(row: dict[str, Any], columns: list[str], pair: tuple[str, str]) -> bool:
    """Whether two texts of a row are other texts than the source and the target of its conversation."""
    mapping = ColumnMapping(source_view_column=pair[0], target_view_column=pair[1])
    to_row = row_maker(columns, mapping, has_chat_template=True)[0]
    try:
        made = to_row({name: row.get(name) for name in columns})
    except ValueError:
        return False
    return [text.strip() for text in _views(made)] != [made[view].strip() for view in ("source", "target")]


def _views(row: dict[str, Any]) -> list[str]:
    """The texts of the two views of a training row."""
    return [row.get(f"{view}_view", row[view]) for view in ("source", "target")]


def _ends_unanswered(row: Mapping[str, Any]) -> bool:
    """Whether a row's conversation continues after its last answer."""
    column = turn_column(row)
    try:
        messages = to_messages(row[column], column) if column is not None else []
        return bool(messages) and target_turn_indices(messages)[-1] < len(messages) - 1
    except ValueError:
        return False


def _maker(columns: list[str], proposal: Proposal) -> Callable[[dict[str, Any]], Iterable[dict[str, Any]]] | None:
    """A function from a row to its training rows; None if the proposal has no two views."""
    if not proposal.has_views:
        return None
    mapping = ColumnMapping(**proposal.settings)
    to_row = row_maker(columns, mapping, has_chat_template=True)[0]
    column = turn_column(columns)
    if mapping.target_turn == "all" and column is not None:
        return lambda row: [to_row(row | pair) for pair in pairs_of_turns(column, row)]
    return lambda row: [to_row(row)]


def _fields(rows: list[dict[str, Any]], num_examples: int) -> dict[str, FieldProfile]:
    fields: dict[str, FieldProfile] = {}
    for row in rows:
        _add_fields(fields, row, num_examples)
    return fields


def _add_fields(fields: dict[str, FieldProfile], row: Mapping[str, Any], num_examples: int) -> None:
    for path, value in walk_fields(row):
        if path in fields or len(fields) < MAX_COLUMNS:
            fields.setdefault(path, FieldProfile()).add(value, num_examples)


def walk_fields(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the paths of a row and their values.

    A field inside a field has its own path. A list is one value. Its first item, or each field of it, also has a path
    (`answers.0.text`), unless the list holds turns.
    """
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from walk_fields(item, f"{path}.")
            continue
        yield path, item
        first = item[0] if isinstance(item, list) and item else None
        if isinstance(first, str) or (isinstance(first, Mapping) and turn_keys(first) is None):
            yield from walk_fields({"0": first}, f"{path}.")


def field_kind(value: Any) -> FieldKind:
    """The kind of a value for a mapping."""
    if isinstance(value, str):
        return "JSON text of turns" if _holds_turns(value) else "text"
    if isinstance(value, bool | int | float):
        return "number"
    if not isinstance(value, list):
        return "other"
    keys = {turn_keys(item) if isinstance(item, Mapping) else None for item in value}
    if not value or None in keys:
        return "list"
    return next((kind for pair, kind in TURN_KINDS.items() if keys == {pair}), "turns")


def _holds_turns(text: str) -> bool:
    if not text.lstrip().startswith("["):
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, list) and field_kind(value) in TURN_FIELD_KINDS


def shorten(value: Any) -> str:
    """A value as one short line; a number as a template writes it."""
    text = str(value) if isinstance(value, str | int | float) else json.dumps(value, default=str, ensure_ascii=False)
    text = " ".join(text[: 4 * VALUE_CHARACTERS].split())
    return text if len(text) <= VALUE_CHARACTERS else f"{text[: VALUE_CHARACTERS - 1]}…"
