"""A process trains on one device: several are refused before anything is loaded."""

import json
from pathlib import Path

import pytest
import torch

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.models.loading import on_one_device
from llm_jepa.preflight import check_run
from llm_jepa.recipe import parse_recipe
from llm_jepa.training.refusals import refuse_several_devices
from tests.evaluation.tiny_runs import save_recipe
from tests.tiny import PAIRS, save_tiny_model


@pytest.mark.parametrize("num_gpus", [0, 1])
@pytest.mark.parametrize("device_map", [None, "cuda:0", "cpu", {"": 0}, {"model": "cuda:1", "lm_head": "cuda:1"}])
def test_one_device_is_allowed(num_gpus, device_map):
    refuse_several_devices(num_gpus, device_map)


@pytest.mark.parametrize(
    ("num_gpus", "device_map", "message"),
    [
        (2, None, r"^2 GPUs are visible.*`accelerate launch -m llm_jepa\.train RECIPE`.*`CUDA_VISIBLE_DEVICES=0`"),
        (8, {"": 0}, "^8 GPUs are visible"),
        (1, "auto", "^`device_map: auto` divides the layers.* Leave it out.*fsdp2.yaml"),
        (1, "balanced_low_0", "divides the layers"),
        (1, {"model": 0, "lm_head": "cpu"}, "divides the layers"),
    ],
)
def test_several_devices_are_refused_with_what_to_do(num_gpus, device_map, message):
    with pytest.raises(ValueError, match=message):
        refuse_several_devices(num_gpus, device_map)


def test_the_model_is_loaded_onto_the_device_of_the_process():
    """TRL's default on a GPU is `auto`."""
    assert on_one_device({"dtype": "float32"}, torch.device("cuda", 1)) == {"device_map": "cuda:1", "dtype": "float32"}
    assert on_one_device({"device_map": {"": 0}}, torch.device("cuda", 0)) == {"device_map": {"": 0}}
    assert on_one_device(None, torch.device("cpu")) is None


@pytest.fixture
def recipe(tmp_path) -> Path:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return save_recipe(tmp_path)


def test_a_recipe_is_refused_before_its_model_is_loaded_and_can_be_inspected(recipe):
    """As on a machine with four GPUs, which transformers counts in `n_gpu`."""
    read = parse_recipe([str(recipe)])
    check_run(read)
    read.training._n_gpu = 4
    with pytest.raises(ValueError, match="4 GPUs are visible"):
        check_run(read)
    assert len(prepare_recipe(read).rows) == len(PAIRS)


def test_a_trainer_of_python_is_refused_before_its_model_is_loaded(tmp_path):
    args = JEPAConfig(str(tmp_path), report_to="none")
    args._n_gpu = 2
    with pytest.raises(ValueError, match="2 GPUs are visible, and a process trains on one"):
        JEPATrainer(str(tmp_path / "no model"), args)
    args = JEPAConfig(str(tmp_path), report_to="none", model_init_kwargs={"device_map": "auto"})
    with pytest.raises(ValueError, match="`device_map: auto` divides the layers"):
        JEPATrainer(str(tmp_path / "no model"), args)
