"""Draws `docs/assets/row.svg`: a row, its two views and the loss. Run it after a change: `python docs/draw_row.py`.

The picture brings its own background, and changes its colours with `prefers-color-scheme`.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path

PICTURE = Path(__file__).parent / "assets" / "row.svg"
WIDTH, HEIGHT = 560, 470
MARGIN = 20
CHARACTER, PADDING, GAP, BOX_HEIGHT = 7.9, 6, 4, 28
STYLE = """
  svg { --page: #ffffff; --edge: #c9ced6; --text: #1f2430; --quiet: #5b6472;
        --source: #d5e6ff; --target: #ffe3c2; --turn: #eceff3; --pred: #d9f2dd; --line: #2f7d46 }
  @media (prefers-color-scheme: dark) {
    svg { --page: #1e2129; --edge: #4a5160; --text: #eceff4; --quiet: #aab2c0;
          --source: #264a78; --target: #70471d; --turn: #343a46; --pred: #24593a; --line: #7fd79a }
  }
  text { font: 15px system-ui, sans-serif; fill: var(--text) }
  .token { font: 13px ui-monospace, Menlo, Consolas, monospace; text-anchor: middle }
  .quiet { font-size: 13px; fill: var(--quiet) }
  .bold { font-weight: 600 }
  .middle { text-anchor: middle } .end { text-anchor: end }
  .page { fill: var(--page); stroke: var(--edge) }
  .box { stroke: var(--edge) }
  .source { fill: var(--source) } .target { fill: var(--target) }
  .turn { fill: var(--turn) } .pred { fill: var(--pred) }
  .line { fill: none; stroke: var(--line); stroke-width: 1.6 }
  .dot { fill: var(--line) }
""".strip("\n")


@dataclass(frozen=True)
class Token:
    """A box with a text; `kind` is its colour: `turn` for what the chat template writes."""

    text: str
    kind: str

    @property
    def width(self) -> float:
        return len(self.text) * CHARACTER + 2 * PADDING


SOURCE = [Token(text, "source") for text in ("lines", "with", "a", "number")]
TARGET = [Token(text, "target") for text in (".*", "[0-9]", ".*")]
USER, ASSISTANT, END = (Token(text, "turn") for text in ("user:", "assistant:", "end"))
PREDICTOR = Token("[PRED]", "pred")


def draw() -> str:
    """The picture as SVG."""
    conversation, ends = boxes([USER, *SOURCE, ASSISTANT, *TARGET, END], 52)
    source, source_ends = boxes([USER, *SOURCE, PREDICTOR], 180)
    target, target_ends = boxes([ASSISTANT, *TARGET], 282)
    learnt, last = ends[5] + GAP, ends[-1]
    readouts = (source_ends[-1], 194), (target_ends[-1], 296)
    meeting = 470
    parts = [
        text(MARGIN, 38, "The row as a conversation", "bold"),
        *conversation,
        line(f"M{learnt} 88 v8 H{last} v-8"),
        text((learnt + last) / 2, 116, "next-token loss: lm_loss", "middle"),
        text(MARGIN, 166, "Source view: guesses the target", "bold"),
        *source,
        text(MARGIN, 228, "[PRED] is a learned vector", "quiet"),
        text(MARGIN, 268, "Target view: is guessed", "bold"),
        *target,
        *(line(f"M{x + 6} {y} H{meeting}") for x, y in readouts),
        *(f'<circle class="dot" cx="{x + 6:g}" cy="{y}" r="4.5"/>' for x, y in readouts),
        line(f"M{meeting} {readouts[0][1]} V{readouts[1][1]}"),
        text(meeting - 8, 240, "distance of the", "end"),
        text(meeting - 8, 259, "embeddings: jepa_loss", "end"),
        text(MARGIN, 340, "A dot is a readout: the last layer's hidden state there", "quiet"),
        text(MARGIN, 358, "is the embedding of the view.", "quiet"),
        f'<rect class="box turn" x="{MARGIN}" y="385" width="{WIDTH - 2 * MARGIN}" height="60" rx="8"/>',
        text(WIDTH / 2, 421, "loss = lm_weight · lm_loss + jepa_weight · jepa_loss", "middle bold"),
    ]
    described = "A row as a conversation with the next-token loss on its target, and its two views with the JEPA loss"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
    page = f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>'
    return "\n".join([head, f"<title>{described}</title>", f"<style>\n{STYLE}\n</style>", page, *parts, "</svg>", ""])


def boxes(tokens: list[Token], y: float) -> tuple[list[str], list[float]]:
    """Tokens side by side from the margin on, and where each ends."""
    parts, ends, x = [], [], float(MARGIN)
    for token in tokens:
        size = f'width="{token.width:g}" height="{BOX_HEIGHT}"'
        parts.append(f'<rect class="box {token.kind}" x="{x:g}" y="{y:g}" {size} rx="4"/>')
        parts.append(text(x + token.width / 2, y + 18.5, token.text, "token"))
        ends.append(round(x + token.width, 1))
        x = round(x + token.width + GAP, 1)
    return parts, ends


def text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(content)}</text>'


def line(path: str) -> str:
    return f'<path class="line" d="{path}"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
