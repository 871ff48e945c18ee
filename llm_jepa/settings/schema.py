"""What every key of a recipe may be, read from the JSON schemas `schema.json` and, of VL-JEPA, `vision_schema.json`.

`llm_jepa.recipe_schema` makes them from the dataclasses that a recipe configures. Reading them needs no torch, and
editors read them too.
"""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["text", "vision"]
SCHEMA_FILES: dict[Kind, Path] = {
    "text": Path(__file__).with_name("schema.json"),
    "vision": Path(__file__).with_name("vision_schema.json"),
}
VISION_KEY = "vision_encoder"
"""A recipe with this key trains VL-JEPA."""
DEFINED_BY = "x-defined-by"
"""The keyword of a property that says whose key it is."""

PATH_OR_MAPPING = frozenset({"accelerator_config", "deepspeed", "fsdp_config"})
"""Mappings for which transformers also takes the path of a JSON file."""

Owner = Literal["llm_jepa", "trl"]
WORDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a mapping (as JSON on the command line)",
    "null": "null",
}
ITEM_WORDS = {"string": "texts", "integer": "whole numbers", "number": "numbers"}


@dataclass(frozen=True)
class Setting:
    """What a key may be.

    Attributes:
        types: JSON's names of the types that are allowed beside `choices`.
        choices: The only texts allowed; any text where `string` is one of the types.
        item: What the items of a list may be.
        default: What holds where the key is not given; JSON's form of it.
        help: What the key means.
        owner: `llm_jepa` for the toolkit's own keys, else `trl`; in a recipe of VL-JEPA these are transformers' alone.
    """

    types: tuple[str, ...]
    choices: tuple[str, ...] = ()
    item: "Setting | None" = None
    default: Any = None
    help: str = ""
    owner: Owner = "trl"

    def in_words(self) -> str:
        """What is allowed, for an error."""
        one_of = "one of " if len(self.choices) > 1 else ""
        allowed = [f"{one_of}{', '.join(self.choices)}"] if self.choices else []
        if "string" in self.types:
            allowed.append("the path of a JSON file" if "object" in self.types else "text")
        words = WORDS if self.item is None else WORDS | {"array": f"a list of one or more {self.item._as_items()}"}
        return " or ".join(allowed + [words[kind] for kind in self.types if kind in words])

    def _as_items(self) -> str:
        """What the items of a list may be, in words."""
        return " or ".join([ITEM_WORDS[kind] for kind in self.types] or [f"of {', '.join(self.choices)}"])

    def mistake(self, key: str, value: Any, detail: str = "") -> str:
        """The error of a value that is not allowed for the key."""
        shown = "null" if value is None else repr(value)
        reason = f" {self.help}" if len(self.choices) == 1 else ""
        return f"`{key}` is {shown}{detail}; it must be {self.in_words()}.{reason}"


def recipe_kind(keys: Iterable[str]) -> Kind:
    """What a recipe with these keys trains."""
    return "vision" if VISION_KEY in keys else "text"


@functools.cache
def known_settings(kind: Kind = "text") -> dict[str, Setting]:
    """Key -> what it may be, in the order of the dataclasses."""
    schema = json.loads(SCHEMA_FILES[kind].read_text(encoding="utf-8"))
    return {key: _setting(content) for key, content in schema["properties"].items()}


def _setting(content: dict[str, Any]) -> Setting:
    members = content.get("anyOf", [content])  # e.g. one of some texts, a text of a pattern, or a list
    types = [member.get("type", []) for member in members]
    texts = [text for member in members for text in member.get("enum", [])]
    item = next((member["items"] for member in members if "items" in member), None)
    return Setting(
        types=(
            *(kind for kinds in types for kind in ([kinds] if isinstance(kinds, str) else kinds)),
            *(("null",) if None in texts else ()),
        ),
        choices=tuple(text for text in texts if text is not None),
        item=None if item is None else _setting(item),
        default=content.get("default"),
        help=content.get("description", ""),
        owner=content.get(DEFINED_BY, "trl"),
    )
