"""Writes the table of `docs/options.md` from the fields of `JEPAConfig`: `python docs/options_table.py`."""

from inspect import get_annotations
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from transformers.trainer_utils import HubStrategy

from llm_jepa import JEPAConfig

PAGE = Path(__file__).parent / "options.md"
KINDS = {
    bool: "`true`, `false`",
    float: "a number",
    int: "a whole number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
    HubStrategy: "`end`",
}
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"


def table() -> str:
    """Every option that `JEPAConfig` adds to TRL's, or whose default it changes, in its order."""
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for name, hint in get_annotations(JEPAConfig).items():
        field = JEPAConfig.__dataclass_fields__[name]
        cells = (f"`{name}`", _default(field.default), _values(hint), field.metadata["help"])
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _default(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else getattr(value, 'value', value)}`"


def _values(hint: Any) -> str:
    """The choices as a recipe writes them, else the kind of value."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = [choice for part in alternatives if get_origin(part) is Literal for choice in get_args(part)]
    texts = [f"`{choice}`" for choice in choices if isinstance(choice, str)]
    return ", ".join(texts) or KINDS[get_origin(alternatives[0]) or alternatives[0]]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
