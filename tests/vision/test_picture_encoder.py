"""Encoders give one token for each patch, frame by frame, as an explicit loop over frames and cells does."""

import pytest
import torch
from torch import nn
from transformers import AutoModel

from llm_jepa.vision.picture_encoder import (
    encode_pictures,
    load_picture_encoder,
    picture_encoder_config,
    picture_shape,
    picture_tower,
)
from tests.vision.tiny_parts import SIDE, VISION, saved

TOKENS = {"vjepa2": 4, "dinov2": 2 * 5, "dinov3": 2 * 7, "siglip": 2 * 4, "resnet": 2 * 4}
"""Of two frames of 2 x 2 patches: V-JEPA 2 joins both frames; DINOv2 has [CLS], DINOv3 two registers too."""


@pytest.fixture(params=VISION)
def name(request):
    return request.param


def pixels(num_frames: int = 2) -> torch.Tensor:
    return torch.randn(3, num_frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


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
                frame = torch.stack([frame[:, y, x] for y in range(frame.shape[1]) for x in range(frame.shape[2])])
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


def test_what_pools_the_tokens_has_no_gradient():
    tower = load_picture_encoder(saved("siglip"))
    assert isinstance(tower.head, nn.Module)
    assert not any(parameter.requires_grad for parameter in tower.head.parameters())
    assert all(parameter.requires_grad for parameter in tower.encoder.parameters())
