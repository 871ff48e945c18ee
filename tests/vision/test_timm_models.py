"""Models of timm as the vision encoder: their processing is timm's own, and they train, are saved and answer."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoImageProcessor
from transformers.utils import is_timm_available

from llm_jepa.train import main as train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.picture_encoder import (
    check_encodes_pictures,
    encode_pictures,
    freeze_unused_weights,
    load_picture_encoder,
    picture_encoder_config,
    picture_tower,
)
from llm_jepa.vision.processor import load_image_processor
from llm_jepa.vision.timm_models import timm_image_processor
from tests.vision.tiny_parts import colour_rows, picture, saved

needs_timm = pytest.mark.skipif(not is_timm_available(), reason="needs the extra `timm`, and a torchvision for torch")
PROCESSING = {
    "input_size": [3, 32, 32], "fixed_input_size": True, "interpolation": "bicubic", "crop_pct": 0.8,
    "crop_mode": "center", "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2],
}  # fmt: skip
ARCHITECTURES = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}),
    "resnet": ("resnet10t", {"channels": [8, 8, 16, 20]}),
    "swin": ("swin_tiny_patch4_window7_224", {
        "img_size": 32, "window_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}),
    "efficientnet": ("efficientnet_lite0", {}),
    "mobilenet": ("mobilenetv3_small_050", {}),
}  # fmt: skip
"""Tokens with [CLS], with rotary positions, a grid with channels first, and one with channels last. The `conv_head` of
EfficientNet makes features, and that of MobileNetV3 stands behind the pooling."""
UNUSED = {"eva": "fc_norm", "mobilenet": "conv_head"}
SHAPES = {
    "vit": (17, 12), "eva": (17, 24), "resnet": (1, 20), "swin": (16, 16), "efficientnet": (1, 1280),
    "mobilenet": (1, 288),
}  # fmt: skip


def timm_model(name: str, directory: Path) -> Path:
    """A tiny random model, in the files that timm publishes: its own weights and configuration."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    architecture, size = ARCHITECTURES[name]
    model = timm.create_model(architecture, pretrained=False, num_classes=0, **size)
    directory.mkdir()
    config = {"architecture": architecture, "num_classes": 0, "label_names": [], "num_features": model.num_features}
    processing = PROCESSING | {"fixed_input_size": name in ("vit", "eva")}
    (directory / "config.json").write_text(json.dumps(config | {"model_args": size, "pretrained_cfg": processing}))
    save_file(model.state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.fixture(params=ARCHITECTURES)
def encoder(request, tmp_path):
    return request.param, timm_model(request.param, tmp_path / "encoder")


def test_the_processing_is_read_from_the_configuration():
    """32 / 0.8 is 40 pixels for the shorter side; a white picture is (1 - mean) / std."""
    processor = timm_image_processor(PROCESSING)
    assert processor.size == {"shortest_edge": 40}
    pixels = processor(images=[picture("white", (80, 60))], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 2.4, 3.5]))
    assert timm_image_processor(PROCESSING | {"crop_mode": "squash"}).size == {"height": 40, "width": 40}
    assert timm_image_processor(PROCESSING | {"crop_pct": None}).size == {"shortest_edge": 36}


@pytest.mark.parametrize("change", [{"input_size": [1, 32, 32]}, {"input_size": [3, 32, 48]}, {"crop_mode": "border"},
                                    {"interpolation": "random"}])  # fmt: skip
def test_other_processing_is_refused(change):
    with pytest.raises(ValueError, match="possible are 3 channels of squares, center or squash, bicubic or bilinear"):
        timm_image_processor(PROCESSING | change)


@pytest.mark.skipif(is_timm_available(), reason="timm is there")
@pytest.mark.parametrize("read", [load_picture_encoder, picture_encoder_config])
def test_a_model_of_timm_without_timm_names_the_extra(read, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": PROCESSING}))
    with pytest.raises(
        ValueError, match=r"is a model of timm, which is not installed: `pip install 'llm-jepa\[timm\]'`"
    ):
        read(str(tmp_path))


@needs_timm
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_timm(mode, interpolation, tmp_path):
    directory = timm_model("resnet", tmp_path / "encoder")
    config = json.loads((directory / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_mode": mode, "interpolation": interpolation}
    (directory / "config.json").write_text(json.dumps(config))
    noise = torch.randint(0, 255, (60, 80, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    given = {"images": [Image.fromarray(noise.numpy())], "return_tensors": "pt"}
    expected = AutoImageProcessor.from_pretrained(directory)(**given)["pixel_values"]
    torch.testing.assert_close(load_image_processor(str(directory))(**given)["pixel_values"], expected)


@needs_timm
def test_features_are_those_of_timm(encoder):
    """Also of one that is built by its configuration and gets the weights, as a saved model is."""
    name, directory = encoder
    loaded = load_picture_encoder(str(directory)).eval()
    pixels = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    patches_NPD = encode_pictures(loaded, pixels)
    assert patches_NPD.shape[1:] == SHAPES[name]
    if name in ("vit", "eva"):
        torch.testing.assert_close(patches_NPD, loaded.timm_model.forward_features(pixels[:, 0]))
    built = picture_tower(type(loaded)(loaded.config)).eval()
    built.load_state_dict(loaded.state_dict())
    torch.testing.assert_close(encode_pictures(built, pixels), patches_NPD)


@needs_timm
def test_weights_that_no_patch_needs_are_frozen(encoder):
    name, directory = encoder
    loaded = load_picture_encoder(str(directory))
    freeze_unused_weights(loaded, 32, 32)
    encode_pictures(loaded, torch.randn(2, 1, 3, 32, 32)).square().sum().backward()
    for key, weight in loaded.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, key
        assert weight.requires_grad == (UNUSED.get(name) not in key.split(".")), key


@needs_timm
@pytest.mark.parametrize("trained", ["frozen", "trained", "cached"])
def test_a_recipe_trains_on_a_model_of_timm_and_answers(encoder, trained, tmp_path):
    _, directory = encoder
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in colour_rows(tmp_path)))
    settings = {
        "vision_encoder": str(directory), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 1, "embedding_size": 12, "max_steps": 2, "per_device_train_batch_size": 6,
        "save_strategy": "no", "disable_tqdm": True, "output_dir": str(tmp_path / "run"),
        "dataset_name": str(tmp_path / "rows.jsonl"),
    }  # fmt: skip
    settings |= {"vision_encoder_learning_rate_factor": 1.0} if trained == "trained" else {}
    settings |= {"feature_cache": str(tmp_path / "cache")} if trained == "cached" else {}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train([str(tmp_path / "recipe.yaml")])
    model = VLJEPAModel.from_pretrained(tmp_path / "run").eval()
    (hits,) = model.rank([picture("red", (60, 40))], ["which one?"], [["red", "blue"]])
    assert len(hits) == 2
    before = load_picture_encoder(str(directory)).state_dict()
    same = [torch.equal(value, before[key]) for key, value in model.vision_encoder.state_dict().items()]
    assert all(same) == (trained != "trained")


@needs_timm
def test_another_size_than_the_fixed_one_is_refused(encoder):
    name, directory = encoder
    loaded = load_picture_encoder(str(directory))
    check_encodes_pictures(loaded, 32, 32)
    if name not in ("vit", "eva", "swin"):
        check_encodes_pictures(loaded, 64, 64)
        return
    with pytest.raises(
        ValueError, match=r"takes no pictures of 64 x 64 pixels alone: .*Give another `image_size`, or leave"
    ):
        check_encodes_pictures(loaded, 64, 64)
