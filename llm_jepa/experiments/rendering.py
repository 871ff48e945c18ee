"""Renders a report as Markdown, and as one HTML page that includes its style and figures."""

import html
import re
from collections.abc import Sequence
from typing import Any

from llm_jepa.experiments.report import Section, report_sections, report_title
from llm_jepa.experiments.tables import Table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } a { color: #24589c; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th.text, td.text { text-align: left; } th:first-child, td:first-child { white-space: nowrap; }
td:not(.text) { white-space: nowrap; } td.text:not(:first-child) { min-width: 6.5rem; }
figure { margin: 1rem 0; overflow-x: auto; } figure svg { min-width: 40rem; max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; position: sticky; left: 0; }
.verdict { border-left: 4px solid #888; padding: .4rem .9rem; margin: .6rem 0; background: #f6f6f6; }
.verdict.better { border-color: #1a7f37; } .verdict.worse { border-color: #b42318; }
.verdict.open { border-color: #9a6700; }
td.better, td.worse, td.open { font-weight: 600; } td.better { color: #1a7f37; } td.worse { color: #b42318; }
td.open { color: #9a6700; }
"""
_TEXT = re.compile(r"[^\W\d_]{4}")
_NO_FIGURE = ("none", "never")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CLASSES = {"better": "better", "worse": "worse", "too few to tell": "open", "incomplete": "open"}


def render_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown, without its figures."""
    return page_markdown(report_title(report), report_sections(report))[0]


def render_html(report: dict[str, Any]) -> str:
    """The report as one HTML page."""
    return page_html(report_title(report), report_sections(report))


def page_markdown(
    title: str, sections: Sequence[Section], figure_folder: str | None = None, header: Sequence[str] = ()
) -> tuple[str, dict[str, str]]:
    """Sections as Markdown, and the figures that it shows from a folder: file name -> SVG. Without a folder, none.

    A header is paragraphs below the title, and a list of the sections.
    """
    blocks = [f"# {title}", *header]
    if header:
        blocks.append("\n".join(f"- [{section.title}](#{_anchor(section.title)})" for section in sections))
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
        blocks += [markdown_table(table) for table in section.tables]
    return "\n\n".join(blocks) + "\n", files


def page_html(title: str, sections: Sequence[Section], header: Sequence[str] = ()) -> str:
    """Sections as one HTML page, with a header as that of `page_markdown`."""
    title = html.escape(title)
    top = [f"<p>{_html_text(paragraph)}</p>" for paragraph in header]
    if header:
        links = (f"<li>{_html_text(f'[{one.title}](#{_anchor(one.title)})')}</li>" for one in sections)
        top.append(f"<ul>{''.join(links)}</ul>")
    body = "\n".join([*top, *map(_html_section, sections)])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def markdown_table(table: Table) -> str:
    """A table as Markdown; columns of text are aligned left, others right."""
    rule = ["---" if is_text else "---:" for is_text in _text_columns(table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (table.heading, rule, *table.rows))


def _anchor(title: str) -> str:
    """As GitHub and MkDocs name a heading's anchor. Example: `Are answers faster?` is `are-answers-faster`."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _text_columns(table: Table) -> list[bool]:
    """Whether each column has words, but those in the place of a figure; the first one always counts as such."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.heading)
    return [
        place == 0 or any(_TEXT.search(cell) for cell in column if cell not in _NO_FIGURE)
        for place, column in enumerate(columns)
    ]


def _html_section(section: Section) -> str:
    parts = [f'<h2 id="{_anchor(section.title)}">{html.escape(section.title)}</h2>']
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
    """A text in which `backticks` mark code, **asterisks** strong text and [text](target) a link; 5 % stays whole."""
    linked = _LINK.sub(r'<a href="\2">\1</a>', re.sub(r"(\d) %", r"\1&nbsp;%", html.escape(text)))
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", linked)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", strong)


def _html_table(table: Table) -> str:
    is_text = _text_columns(table)

    def row(cells: Sequence[str], tag: str) -> str:
        shown = (_html_cell(cell, tag, of_text) for cell, of_text in zip(cells, is_text, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    body = "\n".join(row(cells, "td") for cells in table.rows)
    return f"<table>\n<thead>{row(table.heading, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_cell(cell: str, tag: str, is_text: bool) -> str:
    classes = " ".join(filter(None, ["text" * is_text, _CLASSES.get(cell, "")]))
    marked = f' class="{classes}"' if classes else ""
    return f"<{tag}{marked}>{_html_text(cell)}</{tag}>"
