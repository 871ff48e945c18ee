"""Makes the sections of the page of results from its text, `page.yaml`, and the committed results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evidence.charts import bars
from evidence.claims import claims_table
from evidence.values import Values
from llm_jepa.experiments.report import Section, Table, report_sections

PAGE_FILE = Path(__file__).with_name("page.yaml")
SECTION_KEYS = {"title", "text", "experiment", "parts", "table", "bars", "claims"}


def page_sections(values: Values) -> tuple[str, list[Section]]:
    """The title and the sections of the page."""
    page = yaml.safe_load(PAGE_FILE.read_text(encoding="utf-8"))
    return page["title"], [_section(content, values) for content in page["sections"]]


def _section(content: Mapping[str, Any], values: Values) -> Section:
    assert content.keys() <= SECTION_KEYS, content.keys() - SECTION_KEYS
    notes = [values.fill(text) for text in content.get("text", [])]
    tables = [_table(content["table"], values)] if "table" in content else []
    tables += [claims_table(values)] if "claims" in content else []
    figures = [_bars(content["bars"], values)] if "bars" in content else []
    section = Section(content["title"], notes, figures=figures, tables=tables)
    return _with_experiment(section, content, values) if "experiment" in content else section


def _with_experiment(section: Section, content: Mapping[str, Any], values: Values) -> Section:
    """A section with the verdicts, figures and main tables of the parts of an experiment's report that it names.

    Each of them says of which part it is. What is incomplete stands in the tables alone.
    """
    parts = {part.title: part for part in report_sections(values.content(content["experiment"]))}
    for title in content["parts"]:
        part = parts[title]
        found = [(outcome, f"{title}, {sentence}") for outcome, sentence in part.verdicts if outcome != "incomplete"]
        section.verdicts.extend(found)
        section.figures.extend((svg, f"{title}. {caption}") for svg, caption in part.figures)
        section.tables.extend(_named(table, title) for table in part.tables[:1])
    return section


def _named(table: Table, part: str) -> Table:
    return Table([f"{table.heading[0]}, {part[0].lower()}{part[1:]}", *table.heading[1:]], table.rows)


def _table(content: Mapping[str, Any], values: Values) -> Table:
    heading, *rows = ([values.fill(str(cell)) for cell in row] for row in (content["heading"], *content["rows"]))
    return Table(heading, rows)


def _bars(content: Mapping[str, Any], values: Values) -> tuple[str, str]:
    heights = {name: float(values.fill(value)) for name, value in content["values"].items()}
    return bars(heights, content["label"], content.get("reference")), content["caption"]
