"""EfficientNet-Lite: TensorFlow's padding, a residual where shapes agree, and any size of picture."""

import pytest
import torch
from torch.nn import functional as F

from llm_jepa.vision.efficientnet_lite import ConvNorm, EfficientNetLiteConfig, EfficientNetLiteModel, InvertedResidual


@pytest.mark.parametrize(("side", "kernel", "first"), [(4, 3, 0), (5, 3, -1), (4, 5, -1), (5, 5, -2)])
def test_padding_is_that_of_tensorflow(side, kernel, first):
    """With stride 2 the first window begins at `first`: by hand, total = (ceil(side / 2) - 1) * 2 + kernel - side,
    and half of it, rounded down, comes first."""
    layer = ConvNorm(1, 1, kernel, 2, 1, 0.0).eval()
    torch.nn.init.zeros_(layer.conv.weight)
    layer.conv.weight.data[0, 0, 0, 0] = 1  # each output is the input where its window begins
    picture = torch.arange(1.0, side * side + 1).view(1, 1, side, side)
    found = layer(picture)
    padded = F.pad(picture, (-first, 9, -first, 9))
    num = -(-side // 2)
    assert torch.equal(found, padded[..., : 2 * num : 2, : 2 * num : 2])


def test_the_input_is_added_where_shapes_agree():
    torch.manual_seed(0)
    picture = torch.randn(1, 4, 6, 6)
    for outputs, stride, adds in ((4, 1, True), (4, 2, False), (8, 1, False)):
        block = InvertedResidual(4, outputs, 3, stride, 6, 1e-3).eval()
        torch.nn.init.zeros_(block.project.conv.weight)
        expected = picture if adds else torch.zeros(1, outputs, 6 // stride, 6 // stride)
        assert torch.equal(block(picture), expected)


def test_lite0_has_the_published_number_of_parameters():
    """4,652,008 with 1,281,000 of the classifier and 412,160 of the convolution before it."""
    with torch.device("meta"):
        model = EfficientNetLiteModel(EfficientNetLiteConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_652_008 - 1_281_000 - 412_160
    assert model.config.hidden_size == 320


def test_a_cell_stands_for_32_pixels():
    stages = [(1, 3, 2, 1, 4), (2, 3, 2, 2, 6), (1, 3, 2, 2, 8), (1, 3, 2, 2, 8)]
    config = EfficientNetLiteConfig(stem_width=4, stages=stages)
    model = EfficientNetLiteModel(config).eval()
    assert model(pixel_values=torch.zeros(2, 3, 64, 96)).last_hidden_state.shape == (2, 8, 2, 3)
