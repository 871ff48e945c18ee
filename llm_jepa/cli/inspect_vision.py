"""Shows a VL-JEPA recipe's rows, as text and as a page of pictures, alone or beside what runs answered."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_jepa.files.atomic import write_atomically
from llm_jepa.inspection.picture_page import picture_page, scores_of
from llm_jepa.inspection.vision_rows import VisionInspection, VisionRow, inspect_vision_recipe
from llm_jepa.vision.recipe import VisionRecipe


def show_vision_recipe(console: Console, args: argparse.Namespace, recipe: VisionRecipe) -> None:
    inspection = inspect_vision_recipe(recipe, args.rows, args.runs or ())
    if not args.runs:
        for row in inspection.rows:
            _show_row(console, row)
    console.print(f"rows of {escape(inspection.split)}: {inspection.num_rows}")
    if inspection.accuracy:
        _show_scores(console, inspection)
    if args.html is not None:
        _write_page(args.html, recipe.path.stem, inspection)
        console.print(f"pictures: {escape(str(args.html))}")


def _show_row(console: Console, row: VisionRow) -> None:
    console.rule(f"row {row.index}", align="left")
    sizes = ", ".join(f"{picture.width} x {picture.height}" for picture in row.pictures)
    console.print(f"[bold]pictures[/] {sizes or 'none'}")
    for name, text in (("question", row.question), ("answer", row.answer), ("candidates", ", ".join(row.candidates))):
        if text:
            console.print(f"[bold]{name}[/] {escape(text)}")


def _show_scores(console: Console, inspection: VisionInspection) -> None:
    kinds, rows = scores_of(inspection)
    table = Table(title="accuracy, %", title_justify="left")
    for heading in ("", *kinds):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in rows:
        table.add_row(escape(name), *values)
    console.print(table)


def _write_page(path: Path, title: str, inspection: VisionInspection) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(picture_page(title, inspection), path)
