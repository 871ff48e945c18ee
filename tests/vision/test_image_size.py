"""`image_size` reaches the encoder, and stays with the saved model."""

import json

import pytest
import yaml

from llm_jepa.cli import main
from llm_jepa.train import main as train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.picture_encoder import picture_encoder_config
from tests.vision.tiny_parts import SIDE, colour_rows, picture, saved, tiny_processor


def test_a_recipe_trains_on_pictures_of_its_size(tmp_path):
    rows = colour_rows(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "vision_encoder": saved("resnet"), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 2, "embedding_size": 12, "image_size": 2 * SIDE, "max_steps": 1,
        "per_device_train_batch_size": 6, "save_strategy": "no", "disable_tqdm": True,
        "feature_cache": str(tmp_path / "cache"), "dataset_name": str(tmp_path / "rows.jsonl"),
        "output_dir": str(tmp_path / "run"),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    train([str(tmp_path / "recipe.yaml")])
    facts = json.loads((tmp_path / "cache" / "cache.json").read_text())
    model = VLJEPAModel.from_pretrained(tmp_path / "run")
    assert model.processor.pixels([[picture("red")]]).shape[-1] == 2 * SIDE
    assert facts["num_tokens"] == model.encode_pictures(model.processor.pixels([[picture("red")]])).shape[1]
    with pytest.raises(SystemExit):
        train([str(tmp_path / "recipe.yaml"), "--image_size", "0"])


@pytest.mark.parametrize("command", ["train", "plan"])
@pytest.mark.parametrize(
    ("vision", "option", "message"),
    [
        (
            "siglip",
            "--image_size=24",
            "The vision encoder (siglip_vision_model) takes no pictures of 24 x 24 pixels alone: ",
        ),
        ("vjepa2", "--num_frames=3", "`num_frames` is 3; this vision encoder reads 2 at once. Give 1, or a multiple"),
    ],
)
def test_pictures_that_the_encoder_cannot_take_are_refused(command, vision, option, message, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in colour_rows(tmp_path)))
    settings = {
        "vision_encoder": saved(vision), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 2, "dataset_name": str(tmp_path / "rows.jsonl"), "output_dir": str(tmp_path / "run"),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit):
        main([command, str(tmp_path / "recipe.yaml"), option])
    assert f"error: {message}" in capsys.readouterr().err


def test_pictures_that_are_not_resized_have_the_size_of_the_encoder():
    """So that a trained encoder can be tried before it has seen a row."""
    processor = tiny_processor("siglip")
    processor.image_processor.do_resize = False
    assert processor.pixel_shape(picture_encoder_config(saved("siglip"))) == (SIDE, SIDE)
