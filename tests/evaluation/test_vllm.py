"""`--backend vllm` is refused without vLLM; with it, the texts are those of transformers."""

import importlib.util
import json
import shutil

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig

from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.run import evaluate
from llm_jepa.evaluation.vllm import engine_dtype
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import build_recipe
from tests.tiny import PAIRS, save_tiny_model, tiny_llama

HAS_VLLM = importlib.util.find_spec("vllm") is not None
SIZES = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}  # vLLM wants heads of 32 and more
LIMIT = 8


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A tiny model with a random adapter, and eight rows."""
    directory = tmp_path_factory.mktemp("vllm")
    save_tiny_model(directory / "model", **SIZES)
    config = LoraConfig(
        r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(tiny_llama(**SIZES), config).save_pretrained(directory / "run")
    adapter_config = directory / "run" / "adapter_config.json"
    content = json.loads(adapter_config.read_text())
    adapter_config.write_text(json.dumps(content | {"base_model_name_or_path": str(directory / "model")}))
    Dataset.from_list(PAIRS).to_json(directory / "rows" / "test.jsonl")
    return {
        "model_name_or_path": str(directory / "model"),
        "dataset_name": str(directory / "rows"),
        "output_dir": str(directory / "run"),
        "source_column": "source",
        "target_column": "target",
        "bf16": False,
        "dtype": "float32",
    }


def evaluated(settings, tmp_path, backend):
    recipe = build_recipe(tmp_path / "recipe.yaml", settings)
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer)
    options = {"max_model_len": 128, "gpu_memory_utilization": 0.2, "enforce_eager": True}
    limits = {"batch_size": 8, "backend": backend, "vllm_options": options if backend == "vllm" else None}
    return list(evaluate(recipe, ["base", "tuned"], tokenizer, rows, LIMIT, **limits))


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_without_vllm_the_backend_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r"vLLM is not installed. Install it \(pip install vllm\)"):
        evaluated(settings, tmp_path, "vllm")


@pytest.mark.parametrize(
    ("of_recipe", "stored", "expected"),
    [
        ({"dtype": "auto"}, torch.float32, "float32"),
        ({"dtype": "auto"}, torch.bfloat16, "bfloat16"),
        ({"dtype": "float32"}, torch.bfloat16, "float32"),
        ({"bf16": True}, torch.float32, "bfloat16"),
    ],
)
def test_vllm_computes_in_the_precision_of_transformers(settings, of_recipe, stored, expected, tmp_path):
    tiny_llama().to(stored).save_pretrained(tmp_path / "model")
    recipe = build_recipe(tmp_path / "recipe.yaml", settings | of_recipe)
    assert engine_dtype(recipe, AutoConfig.from_pretrained(tmp_path / "model")) == expected


@pytest.mark.skipif(not HAS_VLLM, reason="vLLM is not installed")
def test_vllm_writes_what_transformers_writes(settings, tmp_path):
    """Base and adapter, greedy, in float32."""
    expected, actual = (evaluated(settings, tmp_path, backend) for backend in ("transformers", "vllm"))
    assert actual == expected
    texts = [[row.prediction for row in result.predictions] for result in actual]
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"task": "choice", "choices_column": "choices"}, "task: choice"),
        ({"load_in_4bit": True, "use_peft": True}, "load_in_4bit"),
    ],
)
def test_what_vllm_does_not_take_is_refused(settings, extra, named, tmp_path):
    Dataset.from_list([pair | {"choices": [pair["target"]]} for pair in PAIRS]).to_json(tmp_path / "test.jsonl")
    with pytest.raises(ValueError, match=f"does not support `{named}`. Use `--backend transformers`"):
        evaluated(settings | {"dataset_name": str(tmp_path)} | extra, tmp_path, "vllm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 1000}, "of rank 1000; vLLM supports up to 512"),
        ({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 4}}, "with `rank_pattern`, `alpha_pattern`"),
        ({"use_dora": True}, "with `use_dora`"),
        ({"init_lora_weights": "pissa_niter_4"}, "with `init_lora_weights: pissa_niter_4`, whose base lacks"),
        ({"peft_type": "IA3"}, "of type IA3"),
    ],
)
def test_an_adapter_that_vllm_does_not_take_is_refused(settings, change, message, tmp_path):
    """Before anything is loaded."""
    shutil.copytree(settings["output_dir"], tmp_path / "run")
    path = tmp_path / "run" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        evaluated(settings | {"output_dir": str(tmp_path / "run")}, tmp_path, "vllm")
