"""Writes the table of `docs/options.md` from the schema of recipes: `python docs/options_table.py`."""

from pathlib import Path

from llm_jepa.settings.listing import options_table

PAGE = Path(__file__).parent / "options.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{options_table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
