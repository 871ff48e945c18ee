"""Every launch file of `recipes/accelerate/` trains, on two processes, the same model as one process.

The launch files are for GPUs. Each is run by the command of docs/launch.md, as it is but for `use_cpu`, over gloo;
DeepSpeed and FSDP by modules of these tests that prepare them for a CPU and then train.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from llm_jepa.models.latent_predictor import FOLDER, WEIGHTS_FILE, read_facts
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from tests.tiny import PAIRS, save_tiny_model

ROOT = Path(__file__).parents[2]
FILES = ROOT / "recipes" / "accelerate"
RECIPE = {
    "source_column": "source",
    "target_column": "target",
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "jepa_objective": ["pair", "next_latent", "multi_token"],  # vectors, a network, layers; the LM head again
    "num_predictor_tokens": 2,
    "rollout_steps": 2,
    "num_future_tokens": 1,
    "predictor_learning_rate": 0.005,
    "learning_rate": 0.01,
    "save_strategy": "no",
    "logging_steps": 1,
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
}
LOGGED = ("loss", "lm_loss", "jepa_loss", "grad_norm")
TRAIN = ("-m", "llm_jepa.train")
DEEPSPEED = ("-m", "tests.deepspeed_on_cpu")
FSDP = ("-m", "tests.fsdp_on_cpu")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Recipes by their method, each trained by one process on the batch of two."""
    directory = tmp_path_factory.mktemp("launched")
    save_tiny_model(directory / "model")
    (directory / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    paths = {"model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "rows.jsonl")}
    lora = {"use_peft": True, "lora_target_modules": "all-linear", "lora_dropout": 0.0}
    lora["jepa_objective"] = ["answer_code", "next_latent", "multi_token"]  # an autoencoder as well
    # By momentum: Adam's steps for gradients near zero depend on the order of sums, and FSDP resumes no empty state.
    ema = {"jepa_target": "ema", "ema_decay": 0.5, "optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.1}
    methods = {"full": {}, "lora": lora, "ema": ema}
    for name, settings in methods.items():
        recipe = directory / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | paths | settings | {"output_dir": str(directory / name)}))
        whole_batch = ("--per_device_train_batch_size=8", "--gradient_accumulation_steps=1", "--use_cpu=true")
        train(parse_recipe([str(recipe), *whole_batch]))
    return directory


def command(python: str, name: str, directory: Path, *options: str) -> list[str]:
    """The command of docs/launch.md without the program."""
    content = yaml.safe_load((FILES / f"{name}.yaml").read_text()) | {"use_cpu": True}
    content.pop("gpu_ids", None)
    config = directory / f"accelerate-{name}.yaml"
    config.write_text(yaml.safe_dump(content))
    return [python, "-m", "accelerate.commands.launch", "--config_file", str(config), *options]


def start(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        # By its name alone: worktrees that share an environment compile DeepSpeed's operator once.
        "CXX": "quick-c++",
        "PATH": os.pathsep.join([str(ROOT / "tests"), os.environ["PATH"]]),
    }
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def assert_trains_the_same(directory: Path, method: str, output_dir: Path) -> None:
    logs = []
    for run in (directory / method, output_dir):
        state = json.loads((run / "trainer_state.json").read_text())
        logs.append([[entry[name] for name in LOGGED] for entry in state["log_history"] if "lm_loss" in entry])
    assert len(logs[0]) == 3
    for expected, actual in zip(*logs, strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)
    file = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    for saved in (file, f"{FOLDER}/{WEIGHTS_FILE}"):
        expected, actual = load_file(directory / method / saved), load_file(output_dir / saved)
        assert actual.keys() == expected.keys()
        for name in expected:
            assert actual[name].numpy() == pytest.approx(expected[name].numpy(), abs=1e-4), name
    assert read_facts(output_dir).options == read_facts(directory / method).options


@pytest.mark.parametrize(
    ("name", "method", "program"),
    [
        ("multi-gpu", "lora", TRAIN),
        ("zero1", "lora", DEEPSPEED),
        ("zero2", "full", DEEPSPEED),
        ("zero3", "full", DEEPSPEED),
        ("zero3", "lora", DEEPSPEED),
        ("zero3-offload", "full", DEEPSPEED),
        ("fsdp2", "full", FSDP),
        ("fsdp2", "lora", FSDP),
    ],
)
def test_a_launch_file_trains_what_one_process_does(name, method, program, directory, python):
    """With accumulation, predictor vectors and the JEPA term; the launcher's type is checked.

    One of them by the Python that the tests run with, the others by one that starts at once.
    """
    output_dir = directory / f"{name}-{method}"
    overrides = ("--output_dir", str(output_dir), "--ddp_backend", "gloo")
    overrides += ("--use_cpu", "true") if name == "multi-gpu" else ()
    python = sys.executable if name == "multi-gpu" else python
    process = start([*command(python, name, directory), *program, str(directory / f"{method}.yaml"), *overrides])
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    if program != FSDP:
        assert output.count(f" saved to {output_dir}.") == 1
    assert_trains_the_same(directory, method, output_dir)


def test_shards_of_a_detached_network_are_clipped_by_their_own_norm(directory, python):
    """FSDP2 puts them in the place of the parameters that the trainer began with."""
    detached = ("--jepa_objective", "next_latent", "--detach_backbone", "true", "--max_grad_norm", "0.5")
    detached += ("--num_future_tokens", "2", "--num_predictor_tokens", "1")  # their defaults: of other objectives
    one = directory / "detached"
    whole_batch = ("--per_device_train_batch_size=8", "--gradient_accumulation_steps=1", "--use_cpu=true")
    train(parse_recipe([str(directory / "full.yaml"), *detached, f"--output_dir={one}", *whole_batch]))
    output_dir, options = directory / "fsdp2-detached", ("--ddp_backend", "gloo")
    launch = [*command(python, "fsdp2", directory), *FSDP, str(directory / "full.yaml"), *detached, *options]
    process = start([*launch, "--output_dir", str(output_dir)])
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert_trains_the_same(directory, "detached", output_dir)


@pytest.mark.parametrize(("name", "program"), [("zero3", DEEPSPEED), ("fsdp2", FSDP)])
def test_averages_of_shards_train_what_one_process_does_and_resume(name, program, directory, python):
    """Each process saves those of its own shards; a run resumed after two of three steps is the same bit for bit."""
    whole, resumed = directory / f"{name}-ema", directory / f"{name}-ema-resumed"
    options = ("--ddp_backend", "gloo", "--save_strategy", "steps", "--save_steps", "2")
    launch = [*command(python, name, directory), *program, str(directory / "ema.yaml"), *options]
    for output_dir, options in ((whole, ()), (resumed, ("--resume_from_checkpoint", str(whole / "checkpoint-2")))):
        process = start([*launch, "--output_dir", str(output_dir), *options])
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 0, output
    assert_trains_the_same(directory, "ema", whole)
    assert len(list((whole / "checkpoint-2").glob("averaged_weights_[01].safetensors"))) == 2
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_two_machines_train_what_one_process_does(directory, python):
    """multi-node.yaml, with a process on each of two machines that meet at an address; here both are this one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output_dir = directory / "multi-node"
    meeting = ("--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1")
    overrides = ("--output_dir", str(output_dir), "--use_cpu", "true", "--ddp_backend", "gloo")
    machines = []
    for rank in ("0", "1"):
        options = (*meeting, "--main_process_port", str(port), "--machine_rank", rank)
        launch = command(python, "multi-node", directory, *options)
        machines.append(start([*launch, *TRAIN, str(directory / "full.yaml"), *overrides]))
    outputs = [machine.communicate(timeout=280)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert_trains_the_same(directory, "full", output_dir)


def test_every_launch_file_is_run():
    """single.yaml is in tests/test_train.py. docs/launch.md names these files."""
    named = {*re.findall(r"recipes/accelerate/([\w-]+)\.yaml", (ROOT / "docs" / "launch.md").read_text())}
    assert named <= {path.stem for path in FILES.glob("*.yaml")}
    names = {path.stem for path in FILES.glob("*.yaml")}
    assert names == {"single", "multi-gpu", "multi-node", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"}
