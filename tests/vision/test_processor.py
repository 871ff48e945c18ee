"""Pictures become pixels as each encoder was trained, and texts become tokens padded on the right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from llm_jepa.vision.processor import VIDEO_PROCESSING_FILE, VLJEPAProcessor, frame_indices, load_image_processor
from tests.vision.tiny_parts import SIDE, VISION, picture, saved, tiny_processor, tiny_token_vlm


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [(1, 4, [0, 0, 0, 0]), (8, 4, [0, 2, 4, 6]), (3, 4, [0, 0, 1, 2]), (5, 1, [0]), (4, 4, [0, 1, 2, 3])],
)
def test_frames_are_spread_evenly_and_repeated_where_there_are_too_few(given, wanted, expected):
    assert frame_indices(given, wanted) == expected


@pytest.mark.parametrize("vision", VISION)
def test_pixels_are_the_normalised_colours_of_the_chosen_frames(vision):
    """Also by V-JEPA 2, whose processor is one of videos."""
    rows = [[picture((255, 0, 51))], [picture("black", (40, 30)), picture("white")]]
    pixels = tiny_processor(vision, num_frames=2).pixels(rows)
    assert pixels.shape == (2, 2, 3, SIDE, SIDE)
    expected = torch.tensor([[[1, -1, -0.6], [1, -1, -0.6]], [[-1, -1, -1], [1, 1, 1]]])  # (x / 255 - 0.5) / 0.5
    torch.testing.assert_close(pixels, expected[..., None, None].expand_as(pixels))


def test_an_even_grid_keeps_its_places():
    grid = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    grid[0, SIDE - 1] = 255
    pixels = tiny_processor().pixels([[Image.fromarray(grid)]])
    assert (pixels[0, 0, :, 0, SIDE - 1] == 1).all()
    assert (pixels == 1).sum() == 3


def test_texts_are_padded_on_the_right_and_refused_beyond_the_limit():
    """A text that is cut would be another question or answer. The control's answers, which have an end, as well."""
    processor, texts = tiny_processor(), ["lines", "lines with a number"]
    most = max(map(len, processor.question_ids(texts)))
    ids_NS, is_token_NS = processor.questions(texts, most)
    assert ids_NS.shape == is_token_NS.shape == (2, most)
    assert is_token_NS[0].tolist() == sorted(is_token_NS[0].tolist(), reverse=True)
    assert is_token_NS[1].all()
    tokens = tiny_token_vlm().processor
    for read, ids in (
        (processor.questions, processor.question_ids),
        (processor.answers, processor.answer_ids),
        (tokens.answers, tokens.answer_ids),
    ):
        (length,) = map(len, ids(texts[1:]))
        read(texts[1:], length)
        with pytest.raises(
            ValueError, match=f"'lines with a number' has {length} tokens; the model reads {length - 1}"
        ):
            read(texts[1:], length - 1)


def test_a_saved_processor_gives_the_same_tensors(tmp_path):
    before = tiny_processor("vjepa2", num_frames=2)
    before.save_pretrained(tmp_path)
    after = VLJEPAProcessor.from_pretrained(str(tmp_path), num_frames=2)
    rows = [[picture("red", (20, 33))]]
    assert torch.equal(before.pixels(rows), after.pixels(rows))
    for kind in ("questions", "answers"):
        for mine, its in zip(getattr(before, kind)(["a dog"], 9), getattr(after, kind)(["a dog"], 9), strict=True):
            assert torch.equal(mine, its)


@pytest.mark.parametrize("convnext", [False, True])
def test_another_size_gives_squares_of_it(convnext):
    processor = tiny_processor()
    if convnext:
        processor.image_processor = ConvNextImageProcessorPil(size={"shortest_edge": 4})
    processor.resize(8)
    assert processor.pixels([[picture("white", (40, 30))]]).shape == (1, 1, 3, 8, 8)


@pytest.mark.parametrize(
    ("before", "after"),
    [({"shortest_edge": 40}, {"shortest_edge": 80}), ({"height": 40, "width": 36}, {"height": 80, "width": 72})],
)
def test_another_size_keeps_the_share_that_is_cropped(before, after):
    """Of 40 pixels 32 are kept, and of 80 then 64; the size of before changes nothing."""
    processor = tiny_processor()
    processor.image_processor = BitImageProcessorPil(size=before, crop_size={"height": 32, "width": 32})
    noise = torch.randint(0, 255, (60, 80, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = [[Image.fromarray(noise.numpy())]]
    pixels = processor.pixels(rows)
    processor.resize(32)
    assert torch.equal(processor.pixels(rows), pixels)
    processor.resize(64)
    assert dict(processor.image_processor.size) == after
    assert processor.pixels(rows).shape == (1, 1, 3, 64, 64)


def test_an_encoder_of_videos_without_its_processing_is_refused_by_the_name_of_the_file(tmp_path):
    (tmp_path / "config.json").write_text((Path(saved("vjepa2")) / "config.json").read_text())
    with pytest.raises(OSError, match=VIDEO_PROCESSING_FILE):
        load_image_processor(str(tmp_path))
