"""Writes the page of results from the committed results, keeps the cells of an experiment, or gives them back.

python benchmarks/results.py
python benchmarks/results.py collect outputs/experiments/NAME
python benchmarks/results.py restore NAME outputs/experiments/NAME
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from evidence.cells import CELLS_FILE, collect, restore
from evidence.claims import check_claims, claims_table
from evidence.page import page_sections
from evidence.values import Values

from llm_jepa.experiments.rendering import markdown_table, page_html, page_markdown, render_html, render_markdown

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE, HTML_PAGE = Path("docs/results.md"), Path("benchmarks/results/index.html")
FIGURES = Path("docs/assets/results")
CLAIMS_PAGE = Path("benchmarks/evidence/claims.md")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    collecting = commands.add_parser("collect", help="keep the finished cells of a comparison in the repository")
    collecting.add_argument("output_dir", type=Path, help="the experiment's `output_dir`")
    restoring = commands.add_parser("restore", help="write the committed cells for `llm-jepa compare` to go on")
    restoring.add_argument("name", help="a directory of benchmarks/results")
    restoring.add_argument("output_dir", type=Path, help="the experiment's `output_dir`")
    options = parser.parse_args(arguments)
    try:
        if options.command == "collect":
            directory = RESULTS / options.output_dir.resolve().name
            print(f"{collect(options.output_dir, directory)} cells in {directory.relative_to(ROOT)}")
        elif options.command == "restore":
            written, left_out = restore(RESULTS / options.name, options.output_dir)
            print(f"{written} cells written in {options.output_dir}")
            if left_out:
                print(f"{left_out} cells have no record of their settings: left out, since nothing shows how they ran")
        else:
            for path in write_page(ROOT):
                print(path)
    except ValueError as error:
        parser.error(str(error))


def write_page(target: Path) -> list[Path]:
    """Write the page with its figures, as Markdown and HTML, the claims, and each experiment's report, below `target`.

    Returns:
        The files written, relative to `target`.

    Raises:
        ValueError: A figure has no source, or a document claims what no result says.
    """
    values = Values(RESULTS)
    check_claims(values, ROOT)
    title, header, sections = page_sections(values, PAGE.parent.as_posix())
    markdown, figures = page_markdown(title, sections, FIGURES.relative_to(PAGE.parent).as_posix(), header)
    _, header, sections = page_sections(values, HTML_PAGE.parent.as_posix())
    files = {PAGE: markdown, HTML_PAGE: page_html(title, sections, header)}
    files |= {FIGURES / name: svg for name, svg in figures.items()}
    claims = markdown_table(claims_table(values))
    files[CLAIMS_PAGE] = f"# Every claim and its source\n\nA test holds each file to these sources.\n\n{claims}\n"
    for cells in sorted(RESULTS.glob(f"*/{CELLS_FILE}")):
        report, directory = values.content(cells.parent.name), cells.parent.relative_to(ROOT)
        files |= {directory / "report.md": render_markdown(report), directory / "report.html": render_html(report)}
    for path, content in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(content, encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    main()
