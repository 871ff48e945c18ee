"""Draws characters of a colour font, alone and as scenes of two by two."""

import functools
import io
import random
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SHARE_OF_TILE = (0.62, 0.82)
"""Range of the larger side of a character over that of its tile."""
MARGIN_SHARE = 0.04
"""Least distance of a character and the edge of its tile, over the tile's side."""


class Pictograms:
    """The characters of a colour font.

    Args:
        font: The contents of the font's file: COLR, or bitmaps of one size.
        size: Pixels of an em; of a bitmap font the size that it has.

    Raises:
        ValueError: It is no font that can be drawn at this size.
    """

    def __init__(self, font: bytes, size: int):
        try:
            self._font = ImageFont.truetype(io.BytesIO(font), size)
        except OSError as error:
            raise ValueError(f"The font cannot be drawn at {size} pixels: {error}.") from error
        self.character = functools.cache(self._character)

    def _character(self, name: str) -> Image.Image:
        """A character by its name in Unicode, in colours, without what is transparent around it.

        Raises:
            ValueError: The font draws nothing for it.
        """
        side = 3 * int(self._font.size)
        picture = Image.new("RGBA", (side, side))
        text = unicodedata.lookup(name)
        ImageDraw.Draw(picture).text((side // 3, side // 3), text, font=self._font, embedded_color=True)
        box = picture.getbbox()
        if box is None:
            raise ValueError(f"The font {self._font.getname()[0]} has no picture of {name!r} (U+{ord(text):04X}).")
        return picture.crop(box)

    def scene(self, names: Sequence[str], side: int, rng: random.Random) -> Image.Image:
        """Four characters in reading order on white, each of a random size at a random point of its tile."""
        picture, tile = Image.new("RGB", (side, side), "white"), side // 2
        for number, name in enumerate(names):
            drawn = self.character(name)
            scale = tile * rng.uniform(*SHARE_OF_TILE) / max(drawn.size)
            drawn = drawn.resize([max(1, round(scale * length)) for length in drawn.size], Image.Resampling.LANCZOS)
            margin = round(MARGIN_SHARE * tile)
            x, y = (rng.randint(margin, tile - margin - length) for length in drawn.size)
            picture.paste(drawn, (x + number % 2 * tile, y + number // 2 * tile), drawn)
        return picture
