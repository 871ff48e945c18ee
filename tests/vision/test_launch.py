"""The launch files of DeepSpeed and FSDP train, on two processes, the model that one process trains."""

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from llm_jepa.train import main
from tests.training.test_launch_files import DEEPSPEED, FSDP, command, start
from tests.vision.tiny_parts import colour_rows, saved

SETTINGS = {
    "predictor_layers": 2,
    "embedding_size": 12,
    "per_device_train_batch_size": 8,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "optim": "sgd",
    "optim_args": "momentum=0.9",
    "info_nce_temperature": 0.5,
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A recipe, trained by one process on the batch of two."""
    directory = tmp_path_factory.mktemp("launched")
    rows = colour_rows(directory, copies=4)
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = {"vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": without_dropout()}
    paths = {"dataset_name": str(directory / "rows.jsonl"), "output_dir": str(directory / "one")}
    (directory / "recipe.yaml").write_text(yaml.safe_dump(SETTINGS | parts | paths))
    main([str(directory / "recipe.yaml"), "--use_cpu=true"])
    return directory


def without_dropout() -> str:
    """BERT's directory, its dropout off: processes draw their own."""

    path = Path(saved("bert")) / "config.json"
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | off))
    return saved("bert")


SAVED = ("--save_strategy", "steps", "--save_steps", "2")


@pytest.mark.parametrize(
    ("name", "program", "options"), [("zero3", DEEPSPEED, ()), ("zero2", DEEPSPEED, SAVED), ("fsdp2", FSDP, SAVED)]
)
def test_a_launch_file_trains_what_one_process_does(name, program, options, directory, python):
    """With a frozen encoder, and the rate of the text encoder in a group of its own.

    A run that is resumed after two of its three steps is the uninterrupted one, bit for bit.
    """
    output_dir = directory / name
    _launch(python, name, program, directory, output_dir, *options)
    _assert_same(directory / "one", output_dir)
    if options:
        resumed, checkpoint = directory / f"{name}-resumed", output_dir / "checkpoint-2"
        _launch(python, name, program, directory, resumed, *options, "--resume_from_checkpoint", str(checkpoint))
        assert (resumed / "model.safetensors").read_bytes() == (output_dir / "model.safetensors").read_bytes()


def test_fsdp_trains_a_token_vlm_whose_head_is_tied_to_its_embeddings(directory, python):
    tokens = ("--answer_form", "tokens")
    one, output_dir = directory / "one-tokens", directory / "fsdp2-tokens"
    main([str(directory / "recipe.yaml"), "--use_cpu=true", *tokens, "--output_dir", str(one)])
    _launch(python, "fsdp2", FSDP, directory, output_dir, *tokens)
    _assert_same(one, output_dir)


def _assert_same(one: Path, other: Path) -> None:
    """By what was logged and by the weights."""
    logs = []
    for run in (one, other):
        state = json.loads((run / "trainer_state.json").read_text())
        logs.append(
            [[entry[key] for key in ("loss", "grad_norm")] for entry in state["log_history"] if "loss" in entry]
        )
    for expected, actual in zip(*logs, strict=True):
        assert actual == pytest.approx(expected, rel=1e-3)
    expected, actual = (load_file(path / "model.safetensors") for path in (one, other))
    assert actual.keys() == expected.keys()
    for key in expected:
        assert actual[key].numpy() == pytest.approx(expected[key].numpy(), abs=1e-3), key


def _launch(
    python: str, name: str, program: tuple[str, ...], directory: Path, output_dir: Path, *options: str
) -> None:
    overrides = ["--output_dir", str(output_dir), "--ddp_backend", "gloo", "--per_device_train_batch_size", "4"]
    recipe = str(directory / "recipe.yaml")
    process = start([*command(python, name, directory), *program, recipe, *overrides, *options])
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
