"""A page of pictures with their questions and answers: one HTML file that needs nothing beside it."""

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

from llm_jepa.inspection.vision_rows import VisionInspection, VisionRow

MAX_PIXELS = 256
MAX_FRAMES = 4
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
article { border: 1px solid #8884; border-radius: .5rem; padding: .8rem; }
article img { max-width: 100%; border-radius: .3rem; }
p { margin: .4rem 0; }
.candidates, .number { color: #888; font-size: 13px; }
.right { color: #18794e; }
.wrong { color: #cd2b31; }
"""


def picture_page(title: str, inspection: VisionInspection) -> str:
    """The page: scores of the runs and chance, then a card for each row."""
    cards = "\n".join(_card(row) for row in inspection.rows)
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n"
        f"<p>{len(inspection.rows):,} of {inspection.num_rows:,} rows of <code>{html.escape(inspection.split)}</code>"
        f"</p>\n{_table(inspection)}<main>\n{cards}\n</main></body></html>\n"
    )


def scores_of(inspection: VisionInspection) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The kinds of questions, and the accuracy of each run and of chance on each, in per cent."""
    kinds = list(inspection.chance)
    rows = [
        (name, [f"{100 * rates[kind].fraction:.1f}" if kind in rates else "" for kind in kinds])
        for name, rates in inspection.accuracy.items()
    ]
    return kinds, [*rows, ("chance", [f"{100 * inspection.chance[kind]:.1f}" for kind in kinds])]


def _table(inspection: VisionInspection) -> str:
    if not inspection.accuracy:
        return ""
    kinds, rows = scores_of(inspection)
    head = _cells("th", ["accuracy, %", *kinds])
    body = "\n".join(_cells("td", [name, *values]) for name, values in rows)
    return f"<table>{head}\n{body}</table>\n"


def _cells(tag: str, values: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(value)}</{tag}>' for value in values)}</tr>"


def _card(row: VisionRow) -> str:
    """A row; of a video its first frames."""
    pictures = "".join(_picture(picture) for picture in row.pictures[:MAX_FRAMES])
    more = len(row.pictures) - MAX_FRAMES
    lines = [
        f'<p class="number">row {row.index}{f", {more} more frames" if more > 0 else ""}</p>',
        f"<p><b>{html.escape(row.question)}</b></p>" if row.question else "",
        f"<p>{html.escape(row.answer)}</p>",
        f'<p class="candidates">of {html.escape(", ".join(row.candidates))}</p>' if row.candidates else "",
        *(_answer(one.run, one.prediction, one.rank) for one in row.answers),
    ]
    return f"<article>{pictures}{''.join(lines)}</article>"


def _answer(run: str, prediction: str, rank: int) -> str:
    name, mark = ("right", "✓") if rank == 1 else ("wrong", f"✗ (right one at {rank})")
    return f'<p class="{name}">{html.escape(run)}: {html.escape(prediction)} {mark}</p>'


def _picture(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((MAX_PIXELS, MAX_PIXELS))
    file = io.BytesIO()
    small.save(file, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
