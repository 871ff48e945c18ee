"""Makes the sections of the page of results from its text, `page.yaml`, and the committed results."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evidence import experiment
from evidence.charts import bars
from evidence.values import Values
from llm_jepa.experiments.report import Section
from llm_jepa.experiments.tables import Table

PAGE_FILE = Path(__file__).with_name("page.yaml")
LOG_FILE = PAGE_FILE.parents[1] / "LOG.md"
SECTION_KEYS = {"title", "text", "experiment", "figures", "tables", "table", "bars"}
LINK = re.compile(r"\]\((?!https:|#)([^)]+)\)")


def page_sections(values: Values, folder: str) -> tuple[str, list[str], list[Section]]:
    """The title, the header's paragraphs and the sections of the page.

    Links in `page.yaml` are paths in the repository; they become links from `folder`, where the page is written.
    """
    page = yaml.safe_load(_linked_from(folder, PAGE_FILE.read_text(encoding="utf-8")))
    header = [values.fill(paragraph) for paragraph in page["header"]]
    newest = re.search(r"^## ([\d-]+):", LOG_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    header.append(f"The newest entry of the log is of {newest[1]}.")
    return page["title"], header, [_section(content, values) for content in page["sections"]]


def _linked_from(folder: str, text: str) -> str:
    return LINK.sub(lambda link: f"]({posixpath.relpath(link[1], folder)})", text)


def _section(content: Mapping[str, Any], values: Values) -> Section:
    assert content.keys() <= SECTION_KEYS, content.keys() - SECTION_KEYS
    section = Section(content["title"], [values.fill(text) for text in content.get("text", [])])
    if "table" in content:
        section.tables.append(_table(content["table"], values))
    if "bars" in content:
        section.figures.append(_bars(content["bars"], values))
    if "experiment" in content:
        report = values.content(content["experiment"])
        section.figures.extend(experiment.figure(report, name) for name in content.get("figures", []))
        section.tables.extend(experiment.table(report, name) for name in content.get("tables", []))
    return section


def _table(content: Mapping[str, Any], values: Values) -> Table:
    heading, *rows = ([values.fill(str(cell)) for cell in row] for row in (content["heading"], *content["rows"]))
    return Table(heading, rows)


def _bars(content: Mapping[str, Any], values: Values) -> tuple[str, str]:
    heights = {name: float(values.fill(value)) for name, value in content["values"].items()}
    return bars(heights, content["label"], content.get("reference")), content["caption"]
