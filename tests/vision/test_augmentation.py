"""Augmented pictures are crops in other colours, drawn by seed, epoch and row; evaluation never sees them."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from llm_jepa.vision.augmentation import CropAndColour, crop_box, recoloured
from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.trainer import VLJEPATrainer
from tests.vision.tiny_parts import colour_rows, picture, tiny_model


def gradient(width: int = 60, height: int = 40) -> Image.Image:
    """Red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(60, 180, width), np.linspace(60, 180, height))
    return Image.fromarray(np.stack([red, green, np.full_like(red, 100)], axis=-1).astype(np.uint8))


def test_crops_by_hand():
    assert crop_box(100, 60, 0.64, 1.0, 0.5, 1.0) == (10, 12, 90, 60)
    assert crop_box(100, 60, 1.0, 1.0, 0.3, 0.3) == (0, 0, 100, 60)
    assert crop_box(100, 60, 1.0, 4 / 3, 0.0, 0.5) == (0, 4, 100, 56)  # no wider than the picture
    assert crop_box(1, 1, 0.6, 0.75, 1.0, 1.0) == (0, 0, 1, 1)


def test_colours_by_hand():
    """Half as bright; grey in the place of colours; all else as it was."""
    assert recoloured(picture((200, 100, 50)), (0.5, 1, 1)).getpixel((0, 0)) == (100, 50, 25)
    red, green, blue = recoloured(picture((200, 100, 50)), (1, 1, 0)).getpixel((0, 0))
    assert red == green == blue
    assert recoloured(gradient(), (1, 1, 1)).tobytes() == gradient().tobytes()


def test_nothing_is_flipped_and_every_crop_keeps_most_of_the_picture():
    augmentation = CropAndColour(seed=0)
    for row in range(50):
        (augmented,) = augmentation([gradient()], row)
        pixels = np.asarray(augmented).astype(int)
        assert (np.diff(pixels[0, :, 0]) >= 0).all()
        assert (np.diff(pixels[:, 0, 1]) >= 0).all()
        assert augmented.width * augmented.height >= 0.55 * 60 * 40


def test_a_draw_depends_on_seed_epoch_and_row_alone():
    def drawn(seed: int, epoch: int, row: int) -> bytes:
        augmentation = CropAndColour(seed)
        augmentation([gradient()], 99)  # what was drawn before does not count
        augmentation.epoch_1.fill_(epoch)
        (augmented,) = augmentation([gradient()], row)
        return augmented.tobytes()

    assert drawn(0, 1, 2) == drawn(0, 1, 2)
    assert len({drawn(0, 1, 2), drawn(1, 1, 2), drawn(0, 0, 2), drawn(0, 1, 3)}) == 4


def test_the_frames_of_a_video_are_augmented_alike():
    first, second = CropAndColour(seed=0)([gradient(), gradient()], 5)
    assert first.tobytes() == second.tobytes()


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return colour_rows(tmp_path)


def new_trainer(output_dir, rows, **options) -> VLJEPATrainer:
    settings = {
        "per_device_train_batch_size": 4, "max_steps": 5, "logging_steps": 1, "learning_rate": 1e-2,
        "save_strategy": "no", "disable_tqdm": True, "augmentation": "crop_and_colour",
    }  # fmt: skip
    args = VisionConfig(output_dir=str(output_dir), **settings | options)
    data = Dataset.from_list(rows)
    return VLJEPATrainer(tiny_model(), args, data, data)


def test_workers_and_resumed_runs_see_the_pictures_of_a_whole_run(rows, tmp_path):
    """Three steps an epoch: the checkpoint is in the middle of the second one."""
    whole = new_trainer(tmp_path / "whole", rows, save_strategy="steps", save_steps=4)
    whole.train()
    resumed = new_trainer(tmp_path / "resumed", rows)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    workers = new_trainer(
        tmp_path / "workers", rows, dataloader_num_workers=1, dataloader_persistent_workers=True,
        dataloader_prefetch_factor=4,
    )  # fmt: skip
    workers.train()
    for name, value in whole.model.named_parameters():
        assert torch.equal(value, dict(resumed.model.named_parameters())[name]), name
        assert torch.equal(value, dict(workers.model.named_parameters())[name]), name
    losses = [[one["loss"] for one in run.state.log_history if "loss" in one] for run in (whole, workers)]
    assert losses[0] == losses[1]


def test_evaluation_sees_pictures_as_they_are(rows, tmp_path):
    augmented, plain = (new_trainer(tmp_path / name, rows, augmentation=name) for name in ("crop_and_colour", "none"))
    batch, expected = (next(iter(trainer.get_eval_dataloader())) for trainer in (augmented, plain))
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    trained, seen = (next(iter(trainer.get_train_dataloader())) for trainer in (augmented, plain))
    assert torch.equal(trained["row_index"], seen["row_index"])
    assert not torch.equal(trained["pixel_values"], seen["pixel_values"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"feature_cache": "cache"}, "has no effect with `feature_cache`, which encodes them once"),
     ({"inputs": "question"}, "has no effect with `inputs: question`, which reads no images")],
)  # fmt: skip
def test_augmentation_of_pictures_that_are_not_read_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        VisionConfig(output_dir=str(tmp_path), augmentation="crop_and_colour", **options)
