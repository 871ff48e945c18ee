"""Writes the tables of `options.md` and `vl.md` from the schemas of recipes: `python docs/options_table.py`."""

from pathlib import Path

from llm_jepa.settings.listing import options_table
from llm_jepa.settings.schema import Kind

DOCS = Path(__file__).parent
PAGES: dict[Kind, Path] = {"text": DOCS / "options.md", "vision": DOCS / "vl.md"}
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"


def with_table(page: str, kind: Kind = "text") -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{options_table(kind)}{END}{after}"


if __name__ == "__main__":
    for kind, path in PAGES.items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), kind), encoding="utf-8")
