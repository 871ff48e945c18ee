"""Pictures of every kind become the RGB that a person sees; what is none is refused with its place and its name."""

import io
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Image, List
from PIL import Image as Pillow

from llm_jepa.vision.picture_check import check_pictures, undecoded_pictures
from llm_jepa.vision.pictures import fault_of, read_frames, read_picture

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


def encoded(picture: Pillow.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pixels(value) -> list[list[tuple]]:
    picture = read_picture(value)
    assert picture.mode == "RGB"
    return [[picture.getpixel((x, y)) for x in range(picture.width)] for y in range(picture.height)]


@pytest.fixture
def red_green() -> Pillow.Image:
    """One row: red, green."""
    picture = Pillow.new("RGB", (2, 1), RED)
    picture.putpixel((1, 0), GREEN)
    return picture


def test_a_path_bytes_a_picture_and_the_mapping_of_datasets_are_one(red_green, tmp_path):
    content = encoded(red_green, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    path = tmp_path / "a.png"
    values = (
        path,
        str(path),
        content,
        red_green,
        {"bytes": content, "path": None},
        {"bytes": None, "path": str(path)},
    )
    for value in values:
        assert pixels(value) == [[RED, GREEN]]
    assert read_picture("a.png", directory=tmp_path).size == (2, 1)


def test_orientation_of_a_camera_is_applied(red_green):
    """6: turned by 90 degrees clockwise for the viewer, so that what is left comes to the top."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert pixels(encoded(red_green, "PNG", exif=exif)) == [[RED], [GREEN]]


def test_transparent_pixels_show_white():
    half_black = Pillow.new("RGBA", (1, 1), (0, 0, 0, 51))
    assert pixels(encoded(half_black, "PNG")) == [[(204, 204, 204)]]  # 255 * (1 - 51 / 255)
    assert pixels(encoded(Pillow.new("LA", (1, 1), (0, 0)), "PNG")) == [[WHITE]]
    palette = Pillow.new("P", (1, 1), 0)
    palette.putpalette([255, 0, 0])
    assert pixels(encoded(palette, "PNG")) == [[RED]]
    assert pixels(encoded(palette, "PNG", transparency=0)) == [[WHITE]]


def test_cmyk_grey_and_one_bit_become_rgb():
    assert pixels(encoded(Pillow.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == [[RED]]
    assert pixels(Pillow.new("1", (1, 1), 1)) == [[WHITE]]
    assert pixels(Pillow.new("L", (1, 1), 7)) == [[(7, 7, 7)]]


def test_16_bits_are_scaled_and_not_clipped():
    """Pillow's own conversion makes white of everything above 255."""
    grey = Pillow.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    assert pixels(encoded(grey, "PNG")) == [[BLACK, (1, 1, 1), (128, 128, 128), WHITE]]


def test_an_animated_picture_gives_its_first_frame():
    frames = [Pillow.new("RGB", (1, 1), color) for color in (RED, GREEN)]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Pillow.open(io.BytesIO(animated)).n_frames == 2
    assert pixels(animated) == [[RED]]


def test_a_video_is_a_list_of_frames(red_green):
    assert [frame.size for frame in read_frames([red_green, red_green])] == [(2, 1), (2, 1)]
    assert len(read_frames(red_green)) == 1
    with pytest.raises(ValueError, match="row 3: the list of frames is empty"):
        read_frames([], "row 3")
    with pytest.raises(ValueError, match=r"row 3: frame 1: picture `b\.png` is missing"):
        read_frames([red_green, "b.png"], "row 3")


def test_what_is_no_picture_is_named_in_one_line(red_green, tmp_path):
    (tmp_path / "cut.png").write_bytes(encoded(red_green.resize((50, 50)), "PNG")[:60])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    refused = [
        ("none.png", r"row 7: picture `none\.png` is missing \(looked in `"),
        ("cut.png", r"row 7: picture `cut\.png` cannot be (read|converted)"),
        ("text.png", r"row 7: picture `text\.png` cannot be read"),
        ("empty.png", r"row 7: picture `empty\.png` cannot be read"),
        ("folder.png", r"row 7: picture `folder\.png` cannot be read"),
        (b"text", "row 7: the picture cannot be read"),
        (Pillow.new("RGB", (0, 5)), "row 7: the picture has no pixels: its size is 0 x 5"),
        (Pillow.new("F", (1, 1)), "row 7: the picture has 32 bits a pixel"),
        (Pillow.new("La", (1, 1)), "row 7: the picture cannot be converted from La to RGB"),
        (None, "row 7: the picture cannot be read: there is no picture in a NoneType; allowed are a path"),
        ("", "row 7: the picture cannot be read: there is no picture in a str"),
    ]
    for value, message in refused:
        with pytest.raises(ValueError, match=message) as error:
            read_picture(value, "row 7", tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="there is no picture in a str"):
        read_picture({"bytes": None, "path": None})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_raise_nothing_else():
    """Each of 300 PNG, JPEG, GIF and TIFF files has bytes changed or cut off. What cannot be read has a fault."""
    rng = np.random.default_rng(0)
    picture = Pillow.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    messages = []
    for kind in ("PNG", "JPEG", "GIF", "TIFF"):
        content = encoded(picture, kind)
        for _ in range(75):
            damaged = bytearray(content[: rng.integers(1, len(content))])
            damaged[rng.integers(len(damaged))] ^= 255
            faults = [fault_of(bytes(damaged))]
            try:
                read_picture(bytes(damaged))
            except ValueError as error:
                messages.append(str(error))
                faults.append(str(error))
            assert (faults[0] is None) == (len(faults) == 1), (kind, faults)
    assert len(messages) > 200
    assert all(message.startswith("the picture ") for message in messages)


@pytest.fixture
def folder(red_green, tmp_path) -> Path:
    for number in range(20):
        red_green.save(tmp_path / f"{number}.png")
    return tmp_path


def test_missing_files_are_counted_and_the_first_is_named(folder):
    names = [f"{number}.png" for number in range(1000)]
    with pytest.raises(
        ValueError, match=r"^Of 1,000 pictures 980 are missing, the first: row 20: picture `20\.png` \(looked in"
    ):
        check_pictures(names, folder)
    assert check_pictures([*names[:20], *names[:20]], folder) == 20, "a picture of two rows counts once"
    (folder / "7.png").write_text("not a picture")
    clips = [names[:10], names[10:20], [*names[:8], "7.png"]]
    with pytest.raises(
        ValueError, match=r"^Of 20 pictures 1 cannot be read, the first: row 0, frame 7: picture `7\.png`"
    ):
        check_pictures(clips, folder)
    (folder / "8.png").unlink()
    both = (
        r"^Of 20 pictures 1 are missing, the first: row 0, frame 8: .*; 1 cannot be read, the first: row 0, frame 7: "
    )
    with pytest.raises(ValueError, match=both + r".*\. Add or repair the files, or leave out their rows\.$"):
        check_pictures(clips, folder)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF"])
def test_pictures_cut_off_in_the_middle_are_counted_before_training(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = encoded(Pillow.fromarray(noise), kind)
    for number in range(6):
        (tmp_path / str(number)).write_bytes(content if number % 2 else content[: len(content) // 2])
    names = [str(number) for number in range(6)]
    message = r"Of 6 pictures 3 cannot be read, the first: row 0: picture `0` cannot be decoded: .*"
    with pytest.raises(ValueError, match=message):
        check_pictures(names, tmp_path)
    assert check_pictures(names[1::2], tmp_path) == 3


def test_pictures_that_cannot_be_used_are_counted_too():
    """A picture that was given opened stays as it is."""
    given = Pillow.open(io.BytesIO(encoded(Pillow.new("RGB", (64, 64)), "JPEG")))
    message = "Of 3 pictures 2 cannot be read, the first: row 1: the picture has no pixels: its size is 0 x 5. Add or"
    with pytest.raises(ValueError, match=message):
        check_pictures([given, Pillow.new("RGB", (0, 5)), Pillow.new("F", (1, 1))])
    assert given.size == (64, 64)


def test_a_column_of_datasets_is_checked_as_it_is_stored(folder):
    paths = [str(folder / f"{number}.png") for number in (0, 1, 99)]
    rows = Dataset.from_dict({"image": paths}).cast_column("image", Image())
    with pytest.raises(ValueError, match=r"Of 3 pictures 1 are missing, the first: row 2: picture `.*99\.png`"):
        check_pictures(undecoded_pictures(rows, "image"))
    clips = Dataset.from_dict({"image": [paths[:2], paths[1:]]}).cast_column("image", List(Image()))
    with pytest.raises(ValueError, match=r"Of 4 pictures 1 are missing, the first: row 1, frame 1: picture"):
        check_pictures(undecoded_pictures(clips, "image"))
    assert check_pictures(undecoded_pictures(Dataset.from_dict({"image": paths[:2]}), "image")) == 2
