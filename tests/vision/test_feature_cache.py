"""Features are kept by the content of pictures, each encoded once, and never mixed with those of another encoder."""

import logging

import numpy as np
import pytest
import torch

from llm_jepa.vision.feature_cache import FeatureCache, picture_key
from llm_jepa.vision.picture_encoder import encode_pictures, load_picture_encoder
from llm_jepa.vision.pictures import read_frames
from tests.vision.tiny_parts import picture, saved, tiny_processor

PICTURES = [picture("red"), picture("blue"), [picture("red"), picture("white")]]
KEYS = [picture_key(one) for one in PICTURES]
FIRST_ROWS = {key: row for row, key in enumerate(KEYS)}


def parts(vision="dinov2", num_frames=2):
    return load_picture_encoder(saved(vision)).eval(), tiny_processor(vision, num_frames)


@pytest.mark.parametrize("vision", ["dinov2", "vjepa2", "resnet"])
def test_features_are_those_of_the_encoder_in_float16(vision, tmp_path):
    encoder, processor = parts(vision)
    cache = FeatureCache(tmp_path / "cache", encoder, processor)
    cache.fill(FIRST_ROWS, PICTURES, encoder, processor)
    with torch.no_grad():
        expected = encode_pictures(encoder, processor.pixels([read_frames(one) for one in PICTURES]))
    loaded = cache.load(KEYS)
    assert loaded.dtype == torch.float32
    torch.testing.assert_close(loaded, expected.half().float(), atol=2e-3, rtol=2e-3)
    assert torch.equal(loaded[0], cache.load([KEYS[0]])[0])


def test_what_is_there_is_not_encoded_again_and_the_size_is_said_before(tmp_path, caplog):
    """Of 3 pictures with 10 tokens of width 16 in 2 bytes: 960 bytes."""
    encoder, processor = parts()
    cache = FeatureCache(tmp_path / "cache", encoder, processor)
    with caplog.at_level(logging.INFO, "llm_jepa"):
        cache.fill(FIRST_ROWS, PICTURES, encoder, processor)
    assert "Features of 3 pictures: 10 x 16 numbers each, 0.0 MB" in caplog.text
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*")}
    assert sum(np.load(path).nbytes for path in files) == 960
    FeatureCache(tmp_path / "cache", encoder, processor).fill(FIRST_ROWS, PICTURES, encoder, processor)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*")}


def test_two_processes_share_the_work(tmp_path):
    """Also where the second begins when the first has written."""
    encoder, processor = parts()
    cache = FeatureCache(tmp_path / "cache", encoder, processor)
    cache.fill(FIRST_ROWS, PICTURES, encoder, processor, share=(0, 2))
    assert [cache.path(key).is_file() for key in KEYS] == [True, False, True]
    cache.fill(FIRST_ROWS, PICTURES, encoder, processor, share=(1, 2))
    assert all(cache.path(key).is_file() for key in KEYS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: parts("dinov3"), "features of another encoder and num_tokens"),
        (lambda: parts(num_frames=4), "features of another num_frames and num_tokens"),
    ],
)
def test_features_of_another_encoder_or_processing_are_refused(other, message, tmp_path):
    FeatureCache(tmp_path / "cache", *parts())
    with pytest.raises(ValueError, match=message):
        FeatureCache(tmp_path / "cache", *other())


def test_one_changed_weight_or_mean_is_another_encoder_or_processing(tmp_path):
    encoder, processor = parts()
    FeatureCache(tmp_path / "cache", encoder, processor)
    processor.image_processor.image_mean = [0.5, 0.5, 0.4]
    with pytest.raises(ValueError, match=r"features of another processing\. Name another"):
        FeatureCache(tmp_path / "cache", encoder, processor)
    encoder, processor = parts()
    with torch.no_grad():
        encoder.layernorm.bias[0] += 1e-3
    with pytest.raises(ValueError, match=r"features of another encoder\. Name another"):
        FeatureCache(tmp_path / "cache", encoder, processor)


def test_a_directory_of_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no features"):
        FeatureCache(tmp_path, *parts())
    with pytest.raises(ValueError, match=r"is a file\. Name a directory"):
        FeatureCache(tmp_path / "mine.txt", *parts())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_features_beyond_float16_are_refused(tmp_path):
    cache = FeatureCache(tmp_path / "cache", *parts())
    with pytest.raises(ValueError, match=r"beyond float16\. Train without `feature_cache`"):
        cache.store("ab", torch.full((2, 2), 1e6))


def test_too_full_a_disk_is_refused_before_the_work(tmp_path):
    encoder, processor = parts()
    cache = FeatureCache(tmp_path / "cache", encoder, processor)
    many = {f"{number:064x}": 0 for number in range(4)}
    object.__setattr__(cache.facts, "num_tokens", 10**12)
    with pytest.raises(ValueError, match=r"needs .* MB, and the disk has .* MB free"):
        cache.fill(many, PICTURES, encoder, processor)


def test_the_key_is_of_the_content(tmp_path):
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        picture(colour).save(tmp_path / f"{name}.png")
    a, b, c = (picture_key(f"{name}.png", tmp_path) for name in "abc")
    assert a == b != c
    content = (tmp_path / "a.png").read_bytes()
    assert a == picture_key(content) == picture_key({"bytes": content, "path": None})
    assert picture_key(["a.png", "c.png"], tmp_path) != picture_key(["c.png", "a.png"], tmp_path)
