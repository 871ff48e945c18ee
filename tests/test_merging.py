"""`llm-jepa merge`: the same logits as base and adapter, in a plain model."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.merging import merge
from llm_jepa.run_record import read_run
from llm_jepa.trainable_weights import keep_4_bit_weights_unpacked
from tests.tiny import save_tiny_model, tiny_tokenizer

IDS_BT = torch.arange(3, 43)[None]
TOLERANCE = 1e-4
"""Float32: W x + B (A x) beside (W + B A) x, of logits up to 10."""


def save_adapter(directory: Path, base: str, **options) -> Path:
    """An adapter whose every weight is random, its tokenizer beside it."""
    torch.manual_seed(1)
    settings = {"task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 32, "target_modules": "all-linear"}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings | options))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn_like(parameter)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(IDS_BT).logits


def stored_names(directory: Path) -> list[str]:
    with safe_open(directory / "model.safetensors", "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize(
    ("tied", "options", "stores_head"),
    [
        (True, {}, False),
        (False, {}, True),
        (True, {"target_modules": ["q_proj", "lm_head"]}, True),
        (True, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, True),
        (True, {"target_modules": ["q_proj", "embed_tokens"]}, True),
    ],
    ids=["tied", "untied", "head adapted", "head saved", "embeddings adapted"],
)
def test_a_reloaded_merge_gives_the_logits_of_base_and_adapter(tied, options, stores_head, tmp_path):
    """Tied embeddings stay one matrix, unless the adapter changes one side of them."""
    base = save_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    adapter = save_adapter(tmp_path / "adapter", base, **options)
    merge(str(adapter), tmp_path / "merged")
    expected = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(found), expected, atol=TOLERANCE)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), expected, atol=0.1)
    assert ("lm_head.weight" in stored_names(tmp_path / "merged")) == stores_head
    shares = found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()
    assert shares == (not stores_head)


def test_a_quantised_base_is_dequantised_as_the_adapter_knew_it(tmp_path):
    """The logits are those of base in 4 bits and adapter, which the base in full precision does not give."""
    pytest.importorskip("bitsandbytes")
    base = save_tiny_model(tmp_path / "base", hidden_size=64, intermediate_size=128)
    adapter = save_adapter(tmp_path / "run", base)
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_peft": True, "dtype": "float32"}
    settings = {"model_name_or_path": base, "dataset_name": "data", "output_dir": str(adapter), **four_bits}
    (adapter / "recipe.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    merge(str(adapter), tmp_path / "merged")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    quantised = AutoModelForCausalLM.from_pretrained(base, quantization_config=config, dtype=torch.float32)
    keep_4_bit_weights_unpacked(quantised)
    expected = logits(PeftModel.from_pretrained(quantised, adapter))
    plain = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(logits(merged), expected, atol=TOLERANCE)
    assert not torch.allclose(plain, expected, atol=0.1)
    assert merged.dtype == torch.float32
    assert not hasattr(merged.config, "quantization_config")
    assert read_run(tmp_path / "merged").settings["load_in_4bit"] is True


def test_float32_keeps_what_bfloat16_rounds_away(tmp_path):
    """A run on a bfloat16 base: merged in the recipe's `dtype` it is rounded, in float32 it is what was trained."""
    base = save_tiny_model(tmp_path / "base")
    adapter = save_adapter(tmp_path / "run", base)
    settings = {"model_name_or_path": base, "dataset_name": "data", "output_dir": "out", "dtype": "bfloat16"}
    (adapter / "recipe.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    merge(str(adapter), tmp_path / "rounded")
    main(["merge", str(adapter), "--output_dir", str(tmp_path / "exact"), "--dtype", "float32"])
    trained_on = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).float()
    expected = logits(PeftModel.from_pretrained(trained_on, adapter))
    rounded, exact = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("rounded", "exact"))
    assert (rounded.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    assert torch.allclose(logits(exact), expected, atol=TOLERANCE)
    assert not torch.allclose(logits(rounded.float()), expected, atol=TOLERANCE)


def test_tokenizer_and_stop_tokens_come_along(tmp_path):
    """The base stops at token 5 and the tokenizer at its own stop token: the merged model at both."""
    base = save_tiny_model(tmp_path / "base")
    GenerationConfig(eos_token_id=5).save_pretrained(base)
    merge(str(save_adapter(tmp_path / "adapter", base)), tmp_path / "merged")
    saved = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert sorted(saved.eos_token_id) == [tiny_tokenizer().eos_token_id, 5]
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == tiny_tokenizer().chat_template


def test_mistakes_end_in_one_line_and_change_nothing(tmp_path, capsys):
    base = save_tiny_model(tmp_path / "base")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    lost = save_adapter(tmp_path / "lost", base)
    config = json.loads((lost / "adapter_config.json").read_text()) | {
        "base_model_name_or_path": str(tmp_path / "gone")
    }
    (lost / "adapter_config.json").write_text(json.dumps(config))
    for adapter, output_dir, message in [
        (base, tmp_path / "out", "is no adapter"),
        (str(lost), full, "is not empty"),
        (str(lost), tmp_path / "out", "gone' cannot be loaded"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["merge", adapter, "--output_dir", str(output_dir)])
        assert ended.value.code == MISTAKE_STATUS
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert message in error
    assert not (tmp_path / "out").exists()
    assert [path.name for path in full.iterdir()] == ["notes.txt"]
