"""What libraries raise while a trainer is built becomes one line that names the step."""

import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.training.build_errors import build_errors_explained
from tests.tiny import PAIRS, save_tiny_model
from tests.trainers import jepa_trainer


class Code:
    """An object that runs code where it is unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return Path(save_tiny_model(tmp_path_factory.mktemp("models") / "llama"))


def build(model: Path, tmp_path: Path, peft_config: LoraConfig | None = None, **options) -> None:
    plain = {"use_cpu": True, "bf16": False, "report_to": "none", "source_column": "source", "target_column": "target"}
    args = JEPAConfig(str(tmp_path / "out"), **plain, **options)
    JEPATrainer(str(model), args, train_dataset=Dataset.from_list(PAIRS), peft_config=peft_config)


def test_the_model_its_tokenizer_the_adapter_and_the_template_are_named(model, tmp_path):
    for options, message in (
        ({"model_init_kwargs": {"attn_implementation": "nonsense"}}, f"`{model}` cannot be loaded: "),
        (
            {"peft_config": LoraConfig(target_modules=["nonsense"])},
            f"The adapter cannot be put into `{model}`: ",
        ),
        ({"peft_config": LoraConfig(target_modules=["lm_head"])}, "TRL refuses this: .* `lm_head` is not supported"),
        ({"eos_token": "<|nope|>"}, r"TRL refuses this: The specified `eos_token` \('<\|nope\|>'\) is not found"),
        (
            {"from_scratch": True, "model_init_kwargs": {"num_hidden_layers": "two"}},
            f"The configuration of `{model}` cannot be loaded with `model_init_kwargs`: ",
        ),
        (
            {"from_scratch": True, "model_init_kwargs": {"attn_implementation": "nonsense"}},
            f"`{model}` cannot be built: ",
        ),
        ({"chat_template_path": str(tmp_path / "none")}, "`chat_template_path` cannot be used: "),
    ):
        with pytest.raises(ValueError, match=message):
            build(model, tmp_path, **options)
    bare = Path(shutil.copytree(model, tmp_path / "bare"))
    for path in bare.glob("*token*"):
        path.unlink()
    with pytest.raises(ValueError, match=f"The tokenizer of `{bare}` cannot be loaded: "):
        build(bare, tmp_path)


def test_weights_that_hold_code_are_not_run(model, tmp_path, capsys):
    pickled = Path(shutil.copytree(model, tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Code()}, pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match=f"`{pickled}` cannot be loaded: UnpicklingError: "):
        build(pickled, tmp_path)
    assert "unpickled" not in capsys.readouterr().out


def test_a_model_of_another_kind_is_refused_before_it_is_loaded(model, tmp_path):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace("LlamaForCausalLM", "LlamaForSequenceClassification"))
    (other / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="is of the kind LlamaForSequenceClassification; only causal"):
        build(other, tmp_path)


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), build_errors_explained("model"):
        _ = 1 / 0
    with pytest.raises(ValueError, match=r"^of the data$"), build_errors_explained("model"):
        raise ValueError("of the data")
    with pytest.raises(torch.OutOfMemoryError), build_errors_explained("model"):
        create_model_from_path()


def create_model_from_path() -> None:
    raise torch.OutOfMemoryError


def test_a_metric_that_no_evaluation_logs_is_named(tmp_path):
    rows = Dataset.from_list(PAIRS[:4])
    options = {"metric_for_best_model": "nothing", "eval_strategy": "steps", "eval_steps": 1, "max_steps": 1}
    trainer = jepa_trainer(tmp_path, eval_dataset=rows, **options)
    with (
        pytest.raises(ValueError, match=r"`metric_for_best_model` cannot be used: KeyError: .*'eval_nothing'"),
        build_errors_explained("model"),
    ):
        trainer.train()
