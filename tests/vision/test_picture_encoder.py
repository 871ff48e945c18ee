"""Encoders give one token for each patch, frame by frame, as an explicit loop over frames and cells does."""

import math

import pytest
import torch
from transformers import AutoModel

from llm_jepa.vision.picture_encoder import (
    encode_pictures,
    freeze_unused_weights,
    grid_positions,
    load_picture_encoder,
    picture_encoder_config,
    picture_shape,
    picture_tower,
)
from tests.vision.tiny_parts import SIDE, VISION, saved

TOKENS = {"vjepa2": 4, "dinov2": 2 * 5, "dinov3": 2 * 7, "siglip": 2 * 4, "resnet": 2 * 4}
"""Of two frames of 2 x 2 patches: V-JEPA 2 joins both frames; DINOv2 has [CLS], DINOv3 two registers too."""

UNUSED = {"vjepa2": set(), "dinov2": {"embeddings"}, "dinov3": {"embeddings"}, "siglip": {"head"}, "resnet": set()}
"""Where the weights stand that no patch needs: the token of masked patches, and a head that pools."""


@pytest.fixture(params=VISION)
def name(request):
    return request.param


def pixels(num_frames: int = 2) -> torch.Tensor:
    return torch.randn(3, num_frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_positions_of_a_grid_by_hand():
    """Two rows, four columns, one channel a wave and a zero: row 0 has the angle pi, column 0 pi / 2."""
    positions_PD = grid_positions(2, 4, 5)
    assert positions_PD.shape == (8, 5)
    row_0_column_0, row_0_column_2, row_1_column_3 = positions_PD[[0, 2, 7]].round(decimals=6).tolist()
    assert row_0_column_0 == [0, -1, 1, 0, 0]
    assert row_0_column_2 == [0, -1, -1, 0, 0]
    assert row_1_column_3 == [0, 1, 0, 1, 0]
    assert grid_positions(1, 1, 8)[0, 1].item() == pytest.approx(math.sin(2 * math.pi / 100))
    assert len(torch.unique(grid_positions(7, 7, 320), dim=0)) == 49


def test_every_encoder_gives_its_tokens(name):
    encoder = load_picture_encoder(saved(name)).eval()
    patches_NPD = encode_pictures(encoder, pixels())
    assert patches_NPD.shape == (3, TOKENS[name], 16)
    assert picture_shape(encoder, 2, SIDE, SIDE) == (TOKENS[name], 16)


def test_frames_are_encoded_one_by_one_and_cells_stand_row_by_row(name):
    """But V-JEPA 2 sees the video whole, as its own `get_vision_features` does."""
    encoder, video = load_picture_encoder(saved(name)).eval(), pixels()
    patches_NPD = encode_pictures(encoder, video)
    if name == "vjepa2":
        whole = AutoModel.from_pretrained(saved(name)).eval()
        torch.testing.assert_close(patches_NPD, whole.get_vision_features(video))
        return
    for n in range(3):
        tokens = []
        for t in range(2):
            frame = encoder(pixel_values=video[n, t][None]).last_hidden_state[0]
            if frame.dim() == 3:
                width, num_rows, num_columns = frame.shape
                frame = torch.stack([frame[:, y, x] for y in range(num_rows) for x in range(num_columns)])
                frame = frame + grid_positions(num_rows, num_columns, width)
            tokens += [*frame]
        torch.testing.assert_close(patches_NPD[n], torch.stack(tokens))


def test_a_still_repeated_is_the_still_that_v_jepa_2_repeats_itself():
    encoder = load_picture_encoder(saved("vjepa2")).eval()
    still = pixels(1)
    torch.testing.assert_close(encode_pictures(encoder, still), encode_pictures(encoder, still.repeat(1, 2, 1, 1, 1)))


def test_the_tower_of_a_configuration_is_that_of_the_weights(name):
    """So that a saved model is built again as it was."""
    loaded = load_picture_encoder(saved(name))
    built = picture_tower(AutoModel.from_config(picture_encoder_config(saved(name))))
    assert type(built) is type(loaded)
    assert built.state_dict().keys() == loaded.state_dict().keys()
    assert not any("predictor" in key or "text_model" in key for key in built.state_dict())


def test_weights_that_no_patch_needs_are_frozen(name):
    """What stays trained gets a gradient, as DDP demands, and what is frozen would get none."""
    encoder = load_picture_encoder(saved(name))
    freeze_unused_weights(encoder, SIDE, SIDE)
    encode_pictures(encoder, pixels()).square().sum().backward()
    frozen = {key for key, weight in encoder.named_parameters() if not weight.requires_grad}
    assert {key.split(".")[0] for key in frozen} == UNUSED[name]
    for key, weight in encoder.named_parameters():
        assert (weight.grad is None) == (key in frozen), key


def test_the_channels_of_a_grid_may_come_last():
    """As those of timm's Swin: here a ResNet's, turned round."""
    encoder = load_picture_encoder(saved("resnet")).eval()
    expected = encode_pictures(encoder, pixels())
    forward = encoder.forward

    def channels_last(**inputs):
        output = forward(**inputs)
        output.last_hidden_state = output.last_hidden_state.permute(0, 2, 3, 1)
        return output

    encoder.forward = channels_last
    assert torch.equal(encode_pictures(encoder, pixels()), expected)
