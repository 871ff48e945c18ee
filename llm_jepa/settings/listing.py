"""The keys of a recipe, listed: the Markdown table of the documentation, and the text of `llm-jepa train --help`."""

import json
import textwrap
from typing import Any

from llm_jepa.settings.schema import Kind, Owner, Setting, known_settings

TERMINAL_TYPES = {
    "boolean": "true|false", "integer": "INTEGER", "number": "NUMBER", "string": "TEXT", "array": "LIST",
    "object": "MAPPING", "null": "null",
}  # fmt: skip

MARKDOWN_TYPES = {
    "boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text",
    "array": "a list", "object": "a mapping",
}  # fmt: skip


def options_table(kind: Kind = "text") -> str:
    """The toolkit's own keys as a Markdown table: key with its choices or types, the default in bold, and meaning."""
    lines = ["| key, values, **default** | meaning |", "|---|---|"]
    for key, setting in _owned_by("llm_jepa", kind).items():
        values = [f"**`{choice}`**" if choice == setting.default else f"`{choice}`" for choice in setting.choices]
        values += [MARKDOWN_TYPES[kind] for kind in setting.types if kind != "null"]
        if setting.default is not None and setting.default not in setting.choices:
            values.append(f"**{_shown(setting.default)}**")
        lines.append(f"| `{key}`<br>{', '.join(values)} | {setting.help} |")
    return "\n".join(lines) + "\n"


def options_text(owner: Owner) -> str:
    """The keys of one owner for a terminal, each with values, default and meaning."""
    lines = []
    for key, setting in _owned_by(owner).items():
        values = "|".join([*setting.choices, *(TERMINAL_TYPES[kind] for kind in setting.types)])
        lines.append(f"  --{key} {values}  (default: {_shown(setting.default)})")
        lines += textwrap.wrap(setting.help, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _owned_by(owner: Owner, kind: Kind = "text") -> dict[str, Setting]:
    return {key: setting for key, setting in known_settings(kind).items() if setting.owner == owner}


def _shown(default: Any) -> str:
    return default if isinstance(default, str) and default else json.dumps(default)
