"""Renders a report as Markdown, and as one HTML page that includes its style and figures."""

import html
import re
from collections.abc import Sequence
from typing import Any

from llm_jepa.experiments.report import Section, Table, report_sections, report_title

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; min-width: 6rem; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .9rem; }
.verdict { border-left: 4px solid #888; padding: .4rem .9rem; margin: .6rem 0; background: #f6f6f6; }
.better { border-color: #1a7f37; } .worse { border-color: #b42318; } .open { border-color: #9a6700; }
"""
_CLASSES = {"better": "better", "worse": "worse", "too few to tell": "open", "incomplete": "open"}


def render_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown, without its figures."""
    return page_markdown(report_title(report), report_sections(report))[0]


def render_html(report: dict[str, Any]) -> str:
    """The report as one HTML page."""
    return page_html(report_title(report), report_sections(report))


def page_markdown(
    title: str, sections: Sequence[Section], figure_folder: str | None = None
) -> tuple[str, dict[str, str]]:
    """Sections as Markdown, and the figures that it shows from a folder: file name -> SVG. Without a folder, none."""
    blocks = [f"# {title}"]
    files: dict[str, str] = {}
    for section in sections:
        lines = [f"- {sentence}" for sentence in (*section.notes, *(text for _, text in section.verdicts))]
        figures = section.figures if figure_folder is not None else []
        if lines or section.tables or figures:
            blocks += [f"## {section.title}", *(["\n".join(lines)] if lines else [])]
        for svg, caption in figures:
            name = f"{len(files) + 1}.svg"
            files[name] = svg
            blocks.append(f"![{caption}]({figure_folder}/{name})")
        blocks += [_markdown_table(table) for table in section.tables]
    return "\n\n".join(blocks) + "\n", files


def page_html(title: str, sections: Sequence[Section]) -> str:
    """Sections as one HTML page."""
    title = html.escape(title)
    body = "\n".join(_html_section(section) for section in sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html_section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if len(section.notes) == 1:
        parts.append(f"<p>{_html_text(section.notes[0])}</p>")
    elif section.notes:
        parts.append("<ul>" + "".join(f"<li>{_html_text(note)}</li>" for note in section.notes) + "</ul>")
    for outcome, sentence in section.verdicts:
        parts.append(f'<p class="verdict {_CLASSES.get(outcome, "")}">{_html_text(sentence)}</p>')
    for svg, caption in section.figures:
        parts.append(f"<figure>{svg}<figcaption>{_html_text(caption)}</figcaption></figure>")
    return "\n".join([*parts, *(_html_table(table) for table in section.tables)])


def _html_text(text: str) -> str:
    """A text in which `backticks` mark code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _markdown_table(table: Table) -> str:
    lines = [table.heading, ["---"] + ["---:"] * (len(table.heading) - 1), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_html_text(cell)}</th>" for cell in table.heading)
    body = "\n".join("<tr>" + "".join(f"<td>{_html_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
