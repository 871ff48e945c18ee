"""Proposes which columns of a data set are source and target, from their names and types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llm_jepa.data.turns import SYSTEM_COLUMN, turn_column
from llm_jepa.data.unread_columns import unread_in_words
from llm_jepa.settings.view_fields import can_be_named

FieldKind = Literal[
    "text",
    "number",
    "chat messages",
    "ShareGPT turns",
    "turns",
    "JSON text of turns",
    "list",
    "text and others",
    "other",
]
TURN_FIELD_KINDS: tuple[FieldKind, ...] = ("chat messages", "ShareGPT turns", "turns")

PAIR_NAMES = (
    ("source", "target"), ("question", "answer"), ("question", "query"), ("question", "sql"), ("prompt", "response"),
    ("prompt", "answer"), ("instruction", "output"), ("instruction", "response"), ("input", "output"),
    ("problem", "solution"), ("problem", "answer"), ("description", "code"), ("docstring", "code"), ("nl", "code"),
    ("text", "code"), ("document", "summary"), ("article", "highlights"), ("dialogue", "summary"),
    ("text", "summary"), ("message", "diff"), ("sentence1", "sentence2"), ("question", "answers"), ("q", "a"),
)  # fmt: skip
"""Common names of sources and targets."""
ID_NAMES = frozenset({"id", "_id", "idx", "index", "uuid", "guid", "url", "hash", "sha", "lang", "language", "split"})
ALPACA_COLUMNS = ("instruction", "input", "output")
TURN_TEMPLATE = "{{{{ ({path} | selectattr('from', 'in', {roles}) | first).value }}}}"
USER_ROLES, ASSISTANT_ROLES = ["human", "user"], ["gpt", "assistant", "model"]
"""Roles of users and assistants in ShareGPT's turns; the first turn may have another, such as `system`."""


@dataclass(frozen=True)
class Proposal:
    """A proposed mapping.

    Attributes:
        settings: The lines of a recipe; empty if the columns need no names, or if there is no proposal.
        reason: The reason in one sentence.
        is_certain: Whether there is no other choice; if not, the user should check the columns.
        has_views: Whether the mapping gives rows with two views.
        candidates: Paths of texts that may be views.
    """

    settings: dict[str, Any]
    reason: str
    is_certain: bool = False
    has_views: bool = True
    candidates: list[str] = field(default_factory=list)


def propose_mapping(columns: Sequence[str], kinds: Mapping[str, FieldKind], ends_unanswered: bool = False) -> Proposal:
    """Propose a mapping for a data set.

    Args:
        columns: Its columns.
        kinds: Path -> kind of its values; a path is a column, or a field in one such as `example.question.text`.
        ends_unanswered: Whether some conversations continue after their last answer.
    """
    if {"input_ids", "labels"} <= {*columns}:
        return Proposal({}, "the rows are already tokenised", is_certain=True, has_views=False)
    if {"prompt", "completion"} <= {*columns}:
        return Proposal({}, "`prompt` and `completion` are read as they are", is_certain=True)
    column = turn_column(columns)
    if column is not None and kinds.get(column) in TURN_FIELD_KINDS:
        return _of_conversations(column, kinds, ends_unanswered)
    turns = [path for path, kind in kinds.items() if kind == "ShareGPT turns"]
    if turns:
        return _of_turns(turns[0], columns)
    texts = [path for path, kind in kinds.items() if kind == "text" and _name(path) not in ID_NAMES]
    chats = [path for path, kind in kinds.items() if kind in TURN_FIELD_KINDS]
    if chats and not _named_pairs(texts):
        reason = f"`{chats[0]}` holds turns, which are read from a column called `messages`; rename it"
        return Proposal({}, reason, has_views=False, candidates=chats)
    numbers = [path for path, kind in kinds.items() if kind == "number" and _name(path) not in ID_NAMES]
    numbers = [path for path in numbers if path.split(".")[0] in columns and can_be_named(path.split("."))]
    proposal = _with_numbers(_of_texts(texts, columns), texts, numbers)
    written = [path for path, kind in kinds.items() if kind == "JSON text of turns"]
    if written and (column in written or not proposal.has_views):
        reason = f"`{written[0]}` is a text that holds turns as JSON; parse it, and name the column `messages`"
        return Proposal({}, reason, has_views=False, candidates=written)
    mixed = [path for path, kind in kinds.items() if kind == "text and others"]
    return _with_mixed(proposal, texts, mixed) if mixed else proposal


def _of_conversations(column: str, kinds: Mapping[str, FieldKind], ends_unanswered: bool) -> Proposal:
    system = f"; `{SYSTEM_COLUMN}` is their system turn" if kinds.get(SYSTEM_COLUMN) == "text" else ""
    if ends_unanswered:
        reason = f"some `{column}` do not end with an answer: `all` trains on every answer, `first` on the first"
        return Proposal({"target_turn": "all"}, reason + system, is_certain=True)
    reason = f"`{column}` are read as they are; the last answer is the target (see `target_turn`)"
    return Proposal({}, reason + system, is_certain=True)


def _of_turns(path: str, columns: Sequence[str]) -> Proposal:
    first, *fields = path.split(".")
    if first not in columns or not all(part.isidentifier() for part in (first, *fields)):
        reason = f"the turns in `{path}` would be the views, but no template can name it; rename the column"
        return Proposal({}, reason, has_views=False, candidates=[path])
    source, target = (TURN_TEMPLATE.format(path=path, roles=roles) for roles in (USER_ROLES, ASSISTANT_ROLES))
    reason = f"the first question and answer in `{path}`; a column named `messages` would train on all turns"
    return Proposal(_settings(source, target), reason)


def _of_texts(texts: list[str], columns: Sequence[str]) -> Proposal:
    if set(ALPACA_COLUMNS) <= {*texts}:
        settings = {
            "source_column": "{{ instruction }}{% if input %}\n{{ input }}{% endif %}",
            "target_column": "output",
        }
        return _by_names(texts, 3, settings, "the columns have the names of Alpaca's, whose `input` may be empty")
    named = _named_pairs(texts)
    if named:
        return _by_names(texts, 2, _settings(*named[0]), "common names of sources and targets")
    if len(texts) == 2 and _list_of(texts[0]) == _list_of(texts[1]) is not None:
        reason = (
            f"`{_list_of(texts[0])}` is a list, of whose first item alone these are fields; write a row for each item"
        )
        return Proposal({}, reason, has_views=False, candidates=texts)
    if len(texts) == 2:
        return Proposal(_settings(*texts), "the only two texts; which one is the source is a guess", candidates=texts)
    if len(texts) == 1 and texts[0] not in columns:
        reason = (
            "one text and no pair: `tube` and `patch` train on a column of texts, not on a field in one; write the "
            "field to a file of its own, as a column `text`"
        )
        return Proposal({}, reason, has_views=False, candidates=texts)
    if len(texts) == 1:
        settings = {"jepa_objective": "tube", "dataset_text_field": texts[0]}
        return Proposal(settings, "one text and no pair: `tube` and `patch` train on single texts", has_views=False)
    if not texts:
        return Proposal({}, "it has no texts", has_views=False)
    reason = (
        "name two of these texts as `source_column` and `target_column`; join several in one as "
        "`{{ first }} {{ second }}`; or name views of one thing as `view_columns: [first, second, third]`"
    )
    return Proposal({}, reason, has_views=False, candidates=texts)


def _with_numbers(proposal: Proposal, texts: list[str], numbers: list[str]) -> Proposal:
    """The proposal, or one with a number as a view if only that makes a pair. A template writes the number as text."""
    if proposal.has_views or not texts or not numbers:
        return proposal
    templates = {path: f"{{{{ {path} }}}}" for path in numbers}
    for pair in _named_pairs([*texts, *numbers]):
        views = [templates.get(path, path) for path in pair]
        written = " and ".join(f"`{view}`" for view in views if view not in pair)
        reason = f"common names of sources and targets; {written} writes numbers as the values above show them"
        return Proposal(_settings(*views), reason, candidates=[*texts, *templates.values()])
    return replace(proposal, candidates=[*texts, *templates.values()]) if len(texts) == 1 else proposal


def _named_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of texts with common names of a source and a target, the commonest first."""
    by_name: dict[str, list[str]] = {}
    for path in texts:
        by_name.setdefault(_name(path), []).append(path)
    return [
        (source, target)
        for names in PAIR_NAMES
        for source in by_name.get(names[0], [])
        for target in by_name.get(names[1], [])
    ]


def pair_beside_conversation(kinds: Mapping[str, FieldKind]) -> tuple[str, str] | None:
    """Two texts beside a conversation that have common names of a source and a target."""
    texts = [path for path, kind in kinds.items() if kind == "text" and path not in ("prompt", "completion")]
    return next(iter(_named_pairs(texts)), None)


def with_own_views(proposal: Proposal, source: str, target: str) -> Proposal:
    """The proposal of a conversation with two texts beside it as its views."""
    settings = {"source_view_column": source, "target_view_column": target}
    reason = (
        f"{proposal.reason}; `{source}` and `{target}` beside them have common names of two views, and without these "
        "lines the turns are the views"
    )
    return Proposal(settings, reason)


def with_unread_columns(proposal: Proposal, unread: Sequence[str]) -> Proposal:
    """The proposal, in doubt, since it leaves columns out that other toolkits read."""
    return replace(proposal, reason=f"{proposal.reason}; {unread_in_words(unread)}", is_certain=False)


def _with_mixed(proposal: Proposal, texts: list[str], mixed: list[str]) -> Proposal:
    """The proposal, with a warning: a possible view is not a text in some rows."""
    reason = (
        f"`{'`, `'.join(mixed)}` hold texts in some rows and other types in others, which training refuses: convert "
        f"all to texts, or use a template such as `{{{{ {mixed[0]} }}}}`, which converts numbers"
    )
    if not proposal.has_views:
        return Proposal({}, reason, has_views=False, candidates=[*texts, *mixed])
    return Proposal(proposal.settings, f"{proposal.reason}; {reason}", candidates=[*texts, *mixed])


def propose_for_document(row: Mapping[str, Any], file: Path) -> Proposal | None:
    """A proposal for a `.json` file that is one object and holds the rows in it; None if it does not."""
    lists = {name: value for name, value in row.items() if isinstance(value, list) and len(value) > 1}
    inner = [name for name, value in lists.items() if all(isinstance(item, Mapping) for item in value)]
    if inner and turn_column(row) is None:
        where = f"`{inner[0]}` holds the rows, a list of {len(lists[inner[0]])} objects"
        rows = f"pandas.DataFrame(data[{inner[0]!r}], dtype=object)"
    elif len(lists) == len(row) and len({len(value) for value in lists.values()}) == 1 and not inner:
        where = "lists hold the rows, one list per column"
        rows = "pandas.DataFrame(data, dtype=object)"
    else:
        return None
    reason = (
        f'the file is one object, whose {where}; write them as JSON Lines: `python -c "import json, pandas; '
        f"data = json.load(open({str(file)!r}, encoding='utf-8')); "
        f"{rows}.to_json('{file.stem}.jsonl', orient='records', lines=True)\"`"
    )
    return Proposal({}, reason, has_views=False)


def _by_names(texts: list[str], num_named: int, settings: dict[str, Any], reason: str) -> Proposal:
    """A proposal by names. It is not certain if there are other texts: one of them may belong to the source."""
    doubts = ["there are other texts"] if len(texts) > num_named else []
    if any(_is_item(path) for path in settings.values()):
        doubts.append("a list gives its first item")
    return Proposal(settings, "; ".join([reason, *doubts]), not doubts, candidates=texts if doubts else [])


def _settings(source: str, target: str) -> dict[str, Any]:
    return {"source_column": source, "target_column": target}


def _name(path: str) -> str:
    """The name of a field: that of `question.text` and `question.0.text` is `question`."""
    first, *inner = path.lower().split(".")
    *outer, name = [first, *(part for part in inner if not part.isdecimal())]
    return outer[-1] if outer and name in ("text", "value") else name


def _list_of(path: str) -> str | None:
    """The list that a path leads into: `turns` of `turns.0.text`. None if it leads into no list."""
    parts = path.split(".")
    index = next((i for i, part in enumerate(parts) if i and part.isdecimal()), None)
    return None if index is None else ".".join(parts[:index])


def _is_item(path: str) -> bool:
    """Whether a path leads into a list."""
    return _list_of(path) is not None
