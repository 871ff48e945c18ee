"""Edits an existing card: replaces our section and our metadata, and keeps every other character."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

SECTION_BEGIN = (
    "<!-- llm-jepa: `llm-jepa push` writes anew what stands from here to the end mark, and nothing else -->"
)
SECTION_END = "<!-- llm-jepa: end -->"
HEADER = re.compile(r"[\s\ufeff]*---[ \t]*\n(?P<yaml>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
EVALUATION_NAME = "llm-jepa eval"
"""The task name in `model-index` that marks our results, which a push replaces."""


def with_section(card: str, section: str) -> str:
    """The card with our section between the marks, or at its end if it has no marks.

    Raises:
        ValueError: A mark is missing or repeated.
    """
    header = HEADER.match(card)
    start = header.end() if header else 0
    text = card[start:]
    if SECTION_BEGIN not in text and SECTION_END not in text:
        return f"{card[:start]}{text.rstrip()}\n\n{section}" if text.strip() else f"{card[:start]}\n{section}"
    begin, end = text.find(SECTION_BEGIN), text.find(SECTION_END)
    if (text.count(SECTION_BEGIN), text.count(SECTION_END)) != (1, 1) or end < begin:
        raise ValueError(
            f"it has {text.count(SECTION_BEGIN)} marks `{SECTION_BEGIN[:22]}…` and {text.count(SECTION_END)} marks "
            f"`{SECTION_END}`; it must have one of each, in this order, or none"
        )
    return card[:start] + text[:begin] + section.rstrip() + text[end + len(SECTION_END) :]


def with_metadata(card: str, entries: Mapping[str, Any]) -> str:
    """The card with some entries of its YAML header set, or removed where the value is None. Other lines are kept.

    Raises:
        ValueError: The header is not a YAML mapping.
    """
    header = HEADER.match(card)
    if header is None:
        return f"---\n{_edited('', entries)}---\n\n{card}"
    return card[: header.start("yaml")] + _edited(header["yaml"], entries) + card[header.end("yaml") :]


def read_metadata(card: str) -> dict[str, Any]:
    """The YAML header of a card; empty without one.

    Raises:
        ValueError: The header is not a YAML mapping.
    """
    header = HEADER.match(card)
    try:
        metadata = yaml.safe_load(header["yaml"]) if header else None
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata at its top cannot be read ({error})") from error
    if not isinstance(metadata, dict | None):
        raise ValueError(f"the metadata at its top must be a mapping and are a {type(metadata).__name__}")
    return metadata or {}


def model_index(there: Any, name: str, ours: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """`model-index` with our earlier results replaced by `ours`, under the model's name; None if no results remain.

    Raises:
        ValueError: The existing `model-index` has another form.
    """
    models = []
    for model in there or []:
        if not isinstance(model, dict) or not isinstance(model.get("results"), list):
            raise ValueError("its `model-index` cannot be read: each model needs a list of `results`")
        others = [result for result in model["results"] if not _is_ours(result)]
        models.append(model if len(others) == len(model["results"]) else model | {"results": others})
    own = next((model for model in models if model.get("name") == name), None)
    if own is None:
        own = {"name": name, "results": []}
        models.append(own)
    full = [model | {"results": model["results"] + ours} if model is own else model for model in models]
    return [model for model in full if model["results"]] or None


def _is_ours(result: Any) -> bool:
    return isinstance(result, dict) and (result.get("task") or {}).get("name") == EVALUATION_NAME


def _edited(text: str, entries: Mapping[str, Any]) -> str:
    """The text of a YAML mapping with some entries changed in place; the whole mapping is rewritten if that fails."""
    there = yaml.safe_load(text) or {}
    wanted = {key: value for key, value in {**there, **entries}.items() if value is not None or key not in entries}
    changed = {key: value for key, value in entries.items() if key not in there or there[key] != value}
    try:
        edited = _put_in_place(text, changed)
        if (yaml.safe_load(edited) or {}) == wanted:
            return edited
    except yaml.YAMLError:  # e.g. a mapping in braces, or an alias whose anchor was removed
        pass
    return _dumped(wanted)


def _put_in_place(text: str, changed: Mapping[str, Any]) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    spans = {key.value: (key.start_mark.index, _end(value)) for key, value in root.value} if root else {}
    for name in sorted(spans.keys() & changed.keys(), key=lambda name: spans[name], reverse=True):  # from the last up
        start, end = spans[name]
        new, rest = _dumped({name: changed[name]}), text[end:].lstrip(" \t")
        if changed[name] is None:
            text = text[:start] + rest.removeprefix("\n")
        else:
            text = text[:start] + (new.rstrip("\n") if rest.startswith("\n") else new) + rest
    added = "".join(
        _dumped({name: value}) for name, value in changed.items() if name not in spans and value is not None
    )
    return text + ("" if not text or text.endswith("\n") else "\n") + added


def _end(node: yaml.Node) -> int:
    """Index of a node's end. A block collection ends with its last item: its end mark follows trailing comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.index


def _dumped(entries: dict[str, Any]) -> str:
    """YAML with Unicode characters, or with escapes where PyYAML could not read them back (e.g. U+0085)."""
    text = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)
    return text if yaml.safe_load(text) == entries else yaml.safe_dump(entries, sort_keys=False)
