"""Reads pictures of every kind as RGB.

A camera's EXIF orientation is applied, transparent pixels show white, 16-bit grey is scaled to 8 bits. An animated
picture gives its first frame; a video is a list of pictures, its frames.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

PictureValue: TypeAlias = "str | Path | bytes | Image.Image | Mapping[str, Any]"
"""A path, a file's bytes, an opened picture, or what `datasets.Image(decode=False)` gives: `bytes` and `path`."""
ALLOWED = "a path, bytes, a PIL picture, or a mapping with `bytes` or `path`"
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow's decoders raise for a damaged file."""
GREY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
NO_RANGE = ("I", "F")
"""Pillow's modes of 32-bit pixels, in which no value is white."""


def read_frames(value: Any, place: str = "", directory: Path | None = None) -> list[Image.Image]:
    """The frames of a video, or the one picture, in RGB. Arguments and errors as in `read_picture`."""
    if not isinstance(value, list | tuple):
        return [read_picture(value, place, directory)]
    if not value:
        raise ValueError(f"{_prefix(place)}the list of frames is empty; give one picture at least.")
    return [read_picture(one, f"{_prefix(place)}frame {number}", directory) for number, one in enumerate(value)]


def read_picture(value: PictureValue, place: str = "", directory: Path | None = None) -> Image.Image:
    """The picture in RGB, 8 bits a channel.

    Args:
        value: See `PictureValue`.
        place: Where the value stands, such as `row 7`, for errors.
        directory: What relative paths are relative to; the working directory if None.

    Raises:
        ValueError: The file is missing, cannot be read, or has no pixels. The message names `place` and the file.
    """
    name = f"{_prefix(place)}{picture_name(value)}"
    try:
        picture = ImageOps.exif_transpose(open_picture(value, directory))
    except FileNotFoundError as error:
        raise ValueError(f"{name} is missing{looked_in(directory)}.") from error
    except DECODING_ERRORS as error:
        raise ValueError(f"{name} cannot be read: {_one_line(error)}.") from error
    unusable = _unusable(picture)
    if unusable is not None:
        raise ValueError(f"{name} {unusable}.")
    try:
        return _to_rgb(picture)
    except DECODING_ERRORS as error:
        raise ValueError(f"{name} cannot be converted from {picture.mode} to RGB: {_one_line(error)}.") from error


def fault_of(value: PictureValue, directory: Path | None = None) -> str | None:
    """Why a picture cannot be read, after its name; None if it can.

    Every pixel is decoded. A JPEG is decoded at an eighth of its width and height, which takes less than half the time
    and reads its file to the end.

    Raises:
        FileNotFoundError: The file is missing.
    """
    try:
        picture = open_picture(value, directory)
        unusable = _unusable(picture)
        if unusable is None:
            if picture is not value:
                picture.draft(None, (1, 1))
            picture.load()
        return unusable
    except FileNotFoundError:
        raise
    except DECODING_ERRORS as error:
        return f"cannot be decoded: {_one_line(error)}"


def open_picture(value: PictureValue, directory: Path | None = None) -> Image.Image:
    """Open a picture without decoding its pixels. Raises one of `DECODING_ERRORS`."""
    if isinstance(value, Image.Image):
        return value
    file = file_of(value, directory)
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)


def file_of(value: Any, directory: Path | None = None) -> Path | bytes:
    """The path or the content of a picture's file.

    Raises:
        ValueError: The value has neither.
    """
    given = (value.get("bytes") or value.get("path") or "") if isinstance(value, Mapping) else value
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str | Path) or not str(given):
        raise ValueError(f"there is no picture in a {type(given).__name__}; allowed are {ALLOWED}")
    return (directory or Path()) / given


def picture_name(value: PictureValue) -> str:
    """The name of a picture in messages: its path if it has one."""
    path = value.get("path") if isinstance(value, Mapping) else getattr(value, "filename", value)
    return f"picture `{path}`" if isinstance(path, str | Path) and str(path) else "the picture"


def _unusable(picture: Image.Image) -> str | None:
    """Why an opened picture cannot be used, whatever its pixels are."""
    if 0 in picture.size:
        return f"has no pixels: its size is {picture.width} x {picture.height}"
    if picture.mode in NO_RANGE:
        return "has 32 bits a pixel, whose range is unknown; convert it to 8 or 16 bits"
    return None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in GREY_16_BIT:
        grey = (np.asarray(picture).astype(np.uint32) + 128) // 257  # 65535 becomes 255
        picture = Image.fromarray(grey.astype(np.uint8))
    if picture.has_transparency_data:
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return picture.convert("RGB")


def _prefix(place: str) -> str:
    return f"{place}: " if place else ""


def looked_in(directory: Path | None) -> str:
    """The end of a message on a missing picture."""
    return f" (looked in `{directory or Path.cwd()}`)"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
