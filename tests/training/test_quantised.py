"""QLoRA by recipes, with bitsandbytes as it runs on the CPU: adapters and predictor tokens on 4 or 8 bits.

On a CPU the paged optimizer keeps its states unpaged; their 8 bits are real. An evaluation in the midst of training is
where bitsandbytes would repack 4-bit weights on a CPU with AVX512-BF16.
"""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from llm_jepa.cli import main
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.objectives.own_parameters import PREDICTOR_FILE
from llm_jepa.objectives.predictor import new_predictor
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from llm_jepa.trainer import JEPATrainer
from tests.devices import USE_CPU, on_device
from tests.forks import fork_ranks, said_by_ranks
from tests.tiny import PAIRS, save_tiny_model
from tests.training.test_launch_files import LOGGED

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("deterministic")

FORMS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True},
    "int8": {"load_in_8bit": True},
}
LORA = {"use_peft": True, "lora_r": 64, "lora_alpha": 64, "lora_dropout": 0.0, "lora_target_modules": "all-linear"}
RECIPE = LORA | {
    "source_column": "source",
    "target_column": "target",
    "num_predictor_tokens": 2,
    "jepa_source_view": "prefix",
    "jepa_target": "stop_gradient",
    "optim": "paged_adamw_8bit",
    "learning_rate": 3e-3,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 8,
    "max_steps": 6,
    "logging_steps": 1,
    "save_strategy": "no",
    "bf16": False,
    "use_cpu": USE_CPU,
    "report_to": "none",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model and a file of rows."""
    directory = tmp_path_factory.mktemp("quantised")
    save_tiny_model(directory / "model", hidden_size=64, intermediate_size=128)
    (directory / "data").mkdir()
    for split in ("train", "test"):
        (directory / "data" / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return directory


def write(directory: Path, name: str, **settings) -> Path:
    paths = {"model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "data")}
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(RECIPE | paths | {"output_dir": str(directory / name)} | settings))
    return path


def trained(directory: Path, name: str, **settings) -> JEPATrainer:
    trainer = train(parse_recipe([str(write(directory, name, **settings))]))
    assert trainer is not None
    return trainer


def logged(trainer: JEPATrainer, *names: str) -> list[list[float]]:
    return [[entry[name] for name in names] for entry in trainer.state.log_history if "lm_loss" in entry]


@pytest.mark.parametrize("form", FORMS)
def test_both_losses_fall_and_evaluations_in_between_change_nothing(form, directory):
    """bf16 compute, 8-bit optimizer states, predictor tokens; evaluated after every second step, and never."""
    settings = FORMS[form] | {"dtype": "bfloat16", "bf16": True}
    never = trained(directory, f"{form}-never", **settings)
    often = trained(directory, f"{form}-often", **settings, eval_strategy="steps", eval_steps=2)
    names = ("loss", "lm_loss", "jepa_loss", "grad_norm")
    assert logged(often, *names) == logged(never, *names)
    evaluations = [entry["eval_loss"] for entry in often.state.log_history if "eval_loss" in entry]
    assert evaluations == sorted(evaluations, reverse=True)
    assert len(evaluations) == 3
    for name in ("lm_loss", "jepa_loss"):
        losses = [step[0] for step in logged(often, name)]
        assert losses[-1] < 0.9 * losses[0], name
    assert getattr(often.base_causal_lm, {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}[form])


def test_the_optimizer_has_paged_states_of_8_bits(directory):
    """Below 4,096 weights bitsandbytes keeps 32 bits."""
    trainer = trained(directory, "optimizer", **FORMS["nf4"], max_steps=1)
    optimizer = trainer.optimizer.optimizer
    assert optimizer.is_paged
    dtypes = {parameter.numel() > 4096: state["state1"].dtype for parameter, state in optimizer.state.items()}
    assert dtypes == {True: torch.uint8, False: torch.float32}


@pytest.mark.parametrize("form", FORMS)
def test_a_step_is_that_of_the_dequantised_model(form, directory):
    """Losses and gradients of LoRA on plain weights, which are what the quantised ones stand for.

    On the CPU both are dequantised before they are multiplied with. The tolerances are for the adapters' start values,
    which TRL rounds to bfloat16 (2^-8 of their size) where the base is quantised.
    """
    quantise = FORMS[form]
    config = BitsAndBytesConfig(
        load_in_4bit="load_in_4bit" in quantise,
        load_in_8bit="load_in_8bit" in quantise,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant="use_bnb_nested_quant" in quantise,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(directory / "model", quantization_config=config, dtype=torch.float32)
    plain = directory / f"{form}-plain"
    save_tiny_model(plain, hidden_size=64, intermediate_size=128)
    model.dequantize().float().save_pretrained(plain)
    original, rounded = (load_file(path / "model.safetensors") for path in (directory / "model", plain))
    name = "model.layers.0.mlp.up_proj.weight"
    assert original.keys() == rounded.keys()
    assert 0.001 < (rounded[name] - original[name]).norm() / original[name].norm() < 0.15

    runs = []
    for run, settings in ((f"{form}-step", quantise), (f"{form}-plain-step", {"model_name_or_path": str(plain)})):
        torch.manual_seed(0)  # of the adapters
        runs.append(trained(directory, run, **settings, max_steps=2, optim="sgd", learning_rate=0.1))
    quantised, expected = (logged(run, *LOGGED) for run in runs)
    for actual, step in zip(quantised, expected, strict=True):
        assert actual == pytest.approx(step, rel=1e-4)
    adapters = [
        load_file(directory / run / "adapter_model.safetensors") for run in (f"{form}-step", f"{form}-plain-step")
    ]
    for name in adapters[0]:
        assert adapters[0][name].numpy() == pytest.approx(adapters[1][name].numpy(), rel=2**-8, abs=1e-4), name
    vectors = [run.predictor.vectors_KD.detach().cpu().numpy() for run in runs]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_adapter_loaded_on_the_quantised_base_is_the_trained_model(form, directory):
    """As `llm-jepa eval` loads it: same logits, same quantised weights. No predictor vector, though two trained."""
    trainer = trained(directory, f"{form}-reloaded", **FORMS[form], max_steps=3)
    start_KD = new_predictor(trainer.base_causal_lm, 2, trainer.args.seed).vectors_KD
    assert not torch.equal(trainer.predictor.vectors_KD.cpu(), start_KD)
    output_dir = directory / f"{form}-reloaded"
    assert not (output_dir / PREDICTOR_FILE).exists()
    names = load_file(output_dir / "adapter_model.safetensors")
    assert {name.rsplit(".", 2)[1] for name in names} == {"lora_A", "lora_B"}

    recipe = parse_recipe([str(directory / f"{form}-reloaded.yaml")])
    input_ids = on_device(torch.tensor([trainer.train_dataset[0]["input_ids"]]))
    logits = {}
    with torch.no_grad():
        logits["trained"] = trainer.model.eval()(input_ids).logits
        for checkpoint, _, model in load_checkpoints(recipe, ["base", "tuned"], 0):
            logits[checkpoint] = model.eval()(input_ids).logits
            weights = dict(model.named_parameters())
    assert torch.allclose(logits["tuned"], logits["trained"], atol=1e-5)
    assert (logits["tuned"] - logits["base"]).abs().max() > 0.1
    for name, weight in trainer.model.named_parameters():
        if not weight.requires_grad:
            assert torch.equal(weight, weights[name]), name


def test_two_processes_train_nf4_as_one_does(directory, tmp_path, monkeypatch):
    """Over gloo, with accumulation: losses, gradients and adapters."""
    settings = FORMS["nf4"] | {"max_steps": 3}
    one = trained(directory, "one", **settings)
    halves = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "ddp_backend": "gloo"}
    recipe = write(directory, "two", **settings, **halves)
    monkeypatch.chdir(tmp_path)
    assert fork_ranks(2, main, ["train", str(recipe)]) == [0, 0], said_by_ranks()
    state = json.loads((directory / "two" / "trainer_state.json").read_text())
    two = [[entry[name] for name in LOGGED] for entry in state["log_history"] if "lm_loss" in entry]
    for actual, expected in zip(two, logged(one, *LOGGED), strict=True):
        assert actual == pytest.approx(expected, rel=1e-3)
    adapters = [load_file(directory / name / "adapter_model.safetensors") for name in ("one", "two")]
    for name in adapters[0]:
        assert adapters[1][name].numpy() == pytest.approx(adapters[0][name].numpy(), abs=1e-3), name
