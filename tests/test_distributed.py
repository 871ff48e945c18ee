"""Two real processes: the step is the one of a single process on the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llm_jepa.predictor import FILE_NAME

TESTS = Path(__file__).parent


def launch(command: list[str], output_dir: Path, **options) -> dict:
    subprocess.run(
        [sys.executable, "-m", *command, "tests.train_tiny", str(output_dir), json.dumps(options)],
        check=True,
        cwd=TESTS.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=240,
    )
    return json.loads((output_dir / "report.json").read_text())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_two_processes_take_the_steps_of_one(lora, tmp_path):
    """Two processes of two micro-batches of two rows, and eight rows at once, give the same losses and weights."""
    saves = {"lora": lora, "save_strategy": "steps", "save_steps": 3, "num_predictor_tokens": 2}
    ddp = ["accelerate.commands.launch", "--config_file", str(TESTS / "cpu-2.yaml"), "-m"]
    two = launch(ddp, tmp_path / "two", per_device_train_batch_size=2, gradient_accumulation_steps=2, **saves)
    one = launch([], tmp_path / "one", per_device_train_batch_size=8, **saves)

    assert (two["num_processes"], one["num_processes"]) == (2, 1)
    for name in ("loss", "lm_loss", "jepa_loss", "jepa_cosine", "grad_norm", "num_tokens"):
        assert [entry[name] for entry in two["log"]] == pytest.approx([entry[name] for entry in one["log"]], rel=1e-4)
    weights = "adapter_model.safetensors" if lora else "model.safetensors"
    for file in (weights, f"checkpoint-3/{FILE_NAME}"):
        actual, expected = load_file(tmp_path / "two" / file), load_file(tmp_path / "one" / file)
        assert actual.keys() == expected.keys()
        for name in expected:
            assert actual[name].numpy() == pytest.approx(expected[name].numpy(), abs=1e-4), name
