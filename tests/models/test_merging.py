"""`llm-jepa merge`: the same logits as base and adapter, in a plain model."""

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.latent_predictor import (
    has_latent_predictor,
    read_facts,
    read_weights,
    write_latent_predictor,
)
from llm_jepa.models.merging import merge
from llm_jepa.models.subject import read_subject
from llm_jepa.models.trainable_weights import keep_4_bit_weights_unpacked
from llm_jepa.recipe import parse_recipe
from llm_jepa.runs.record import read_run
from llm_jepa.train import train
from tests.evaluation.tiny_runs import save_recipe
from tests.models.test_latent_predictor import facts as tiny_facts
from tests.tiny import PAIRS, save_tiny_model, tiny_tokenizer

IDS_BT = torch.arange(3, 43)[None]
LORA_RUN = {
    "use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 0.1, "max_steps": 2, "dtype": "float32",
    "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
}  # fmt: skip
BOTH = ["embed_tokens", "lm_head"]
TOLERANCE = 1e-4
"""Float32: W x + B (A x) beside (W + B A) x, of logits up to 10."""


def save_adapter(directory: Path, base: str, **options) -> Path:
    """An adapter with random weights, and its tokenizer."""
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
        (
            True,
            {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
            False,
        ),
        (True, {"target_modules": ["q_proj"], "modules_to_save": BOTH, "ensure_weight_tying": True}, False),
        (True, {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}, False),
        (True, {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6, 7]}, False),
        (False, {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 6, 7]}}, True),
    ],
)
def test_a_reloaded_merge_gives_the_logits_of_base_and_adapter(tied, options, stores_head, tmp_path):
    """Tied embeddings stay one matrix, unless the adapter changes one side of them."""
    base = save_tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    adapter = save_adapter(tmp_path / "adapter", base, **options)
    merge(str(adapter), tmp_path / "merged")
    expected = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))
    found, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not loading["missing_keys"]
    assert torch.allclose(logits(found), expected, atol=TOLERANCE)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), expected, atol=0.1)
    assert ("lm_head.weight" in stored_names(tmp_path / "merged")) == stores_head
    shares = found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()
    assert shares == (not stores_head)


def test_a_quantised_base_is_dequantised_as_the_adapter_knew_it(tmp_path):
    """The logits are those of the 4-bit base with the adapter, not of the base in full precision."""
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


@pytest.mark.parametrize("form", [{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, {"load_in_8bit": True}])
def test_a_base_that_was_saved_quantised_is_taken_as_it_is(form, tmp_path):
    """The recipe does not mention the quantisation. Training, evaluation and merge use the same weights."""
    pytest.importorskip("bitsandbytes")
    plain = save_tiny_model(tmp_path / "plain", hidden_size=64, intermediate_size=128)
    quantised = AutoModelForCausalLM.from_pretrained(plain, quantization_config=BitsAndBytesConfig(**form))
    quantised.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    recipe = parse_recipe([str(save_recipe(tmp_path, **LORA_RUN))])
    trainer = train(recipe)
    assert trainer is not None
    expected = logits(trainer.model)
    (_, _, tuned) = next(load_checkpoints(recipe, ["tuned"], 0))
    assert torch.allclose(logits(tuned), expected, atol=TOLERANCE)
    merge(str(tmp_path / "run"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not hasattr(merged.config, "quantization_config")
    assert (logits(merged) - expected).norm() < 0.05 * expected.norm()  # in 8 bits activations are rounded too
    assert (logits(AutoModelForCausalLM.from_pretrained(plain)) - expected).norm() > 0.5 * expected.norm()


def test_tokens_that_a_template_brings_are_merged_too(tmp_path):
    """`chat_template_path` of a model: TRL adds its tokens to the tokenizer and rows to the embeddings."""
    base = save_tiny_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(322)
    options = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    options["trainable_token_indices"] = {"embed_tokens": [320, 321]}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(["<turn>", "<end>"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids_BT = torch.tensor([[5, 320, 6, 321]])
    assert torch.allclose(merged(ids_BT).logits, adapted.eval()(ids_BT).logits, atol=TOLERANCE)


def test_float32_keeps_what_bfloat16_rounds_away(tmp_path):
    """A run on a bfloat16 base: merging in the recipe's `dtype` rounds; float32 keeps the trained sums."""
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
    """The base stops at token 5, the tokenizer at its own stop token, the merged model at both."""
    base = save_tiny_model(tmp_path / "base")
    sampling = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20}  # as many models have it
    (Path(base) / "generation_config.json").write_text(json.dumps({"eos_token_id": 5, **sampling}))
    merge(str(save_adapter(tmp_path / "adapter", base)), tmp_path / "merged")
    saved = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert saved.temperature in (None, 1.0)
    assert sorted(saved.eos_token_id) == [tiny_tokenizer().eos_token_id, 5]
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == tiny_tokenizer().chat_template


@pytest.mark.parametrize("flags", [[], ["--without_predictor"]])
def test_a_latent_predictor_comes_along_unless_it_is_left_out(tmp_path, flags):
    adapter = save_adapter(tmp_path / "adapter", save_tiny_model(tmp_path / "base"))
    write_latent_predictor(adapter, tiny_facts(), {"vectors_KD": torch.ones(1, 32)})
    assert main(["merge", str(adapter), "--output_dir", str(tmp_path / "merged"), *flags]) == 0
    assert has_latent_predictor(tmp_path / "merged") == (not flags)
    if not flags:
        assert read_facts(tmp_path / "merged") == tiny_facts()
        assert torch.equal(read_weights(tmp_path / "merged")["vectors_KD"], torch.ones(1, 32))
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged")  # which ignores it


def test_a_merged_model_is_evaluated_by_the_prompts_of_its_run(tmp_path, caplog):
    """Its system prompt and template arguments, unless an override says otherwise, which is warned of."""
    base = save_tiny_model(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    prompts = {"system_prompt": "Write a regex.", "chat_template_kwargs": {"a": 1}}
    save_recipe(tmp_path, model_name_or_path=base, use_peft=True, **prompts).rename(adapter / "recipe.yaml")
    merge(str(adapter), tmp_path / "merged")
    data = ["--dataset_name", "other", "--source_column", "q", "--target_column", "a"]
    recipe, checkpoints = read_subject(str(tmp_path / "merged"), data, None)
    assert checkpoints == ["base"]
    assert {key: getattr(recipe.training, key) for key in prompts} == prompts
    assert not recipe.model.use_peft
    assert "other prompts" not in caplog.text
    recipe, _ = read_subject(str(tmp_path / "merged"), [*data, "--system_prompt", "null"], None)
    assert recipe.training.system_prompt is None
    assert "`system_prompt` is 'Write a regex.' there and None here" in caplog.text


def with_code_of_its_own(directory: Path, trace: Path) -> Path:
    """A model whose loading runs code that leaves a file."""
    base = Path(save_tiny_model(directory))
    config = json.loads((base / "config.json").read_text()) | {
        "model_type": "other",
        "auto_map": {"AutoConfig": "configuration_o.OtherConfig", "AutoModelForCausalLM": "modeling_o.OtherLM"},
    }
    (base / "config.json").write_text(json.dumps(config))
    (base / "configuration_o.py").write_text(
        f"from transformers import LlamaConfig\nopen({str(trace)!r}, 'w').close()\n"
        "class OtherConfig(LlamaConfig):\n    model_type = 'other'\n"
    )
    (base / "modeling_o.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_o import OtherConfig\n"
        "class OtherLM(LlamaForCausalLM):\n    config_class = OtherConfig\n"
    )
    return base


def test_code_that_comes_with_a_base_runs_by_the_flag_alone(tmp_path, capsys):
    """A recipe cannot allow code: it may have come with an adapter."""
    base = with_code_of_its_own(tmp_path / "base", tmp_path / "trace")
    adapter = save_adapter(tmp_path / "adapter", save_tiny_model(tmp_path / "plain"))
    settings = {"model_name_or_path": str(base), "dataset_name": "d", "output_dir": "o", "use_peft": True}
    settings |= {"trust_remote_code": True, "model_init_kwargs": {"trust_remote_code": True}}
    (adapter / "recipe.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    assert "Allow code of its own with `trust_remote_code`" in refusal(capsys, adapter, tmp_path / "out")
    assert not (tmp_path / "trace").exists()
    main(["merge", str(adapter), "--output_dir", str(tmp_path / "out"), "--trust_remote_code"])
    assert (tmp_path / "trace").exists()


def refusal(capsys, adapter: Path | str, output_dir: Path) -> str:
    """The error line of a refused merge."""
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(adapter), "--output_dir", str(output_dir)])
    assert ended.value.code == MISTAKE_STATUS
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def broken(what: str, directory: Path) -> Path:
    """An adapter that cannot be merged."""
    base = save_tiny_model(directory / "base")
    if what == "prompt":
        model = AutoModelForCausalLM.from_pretrained(base)
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        get_peft_model(model, config).save_pretrained(directory / "prompt")
        return directory / "prompt"
    adapter = save_adapter(directory / "adapter", base)
    match what:
        case "weights":
            (adapter / "adapter_model.safetensors").write_bytes(b"xx")
        case "no weights":
            (adapter / "adapter_model.safetensors").unlink()
        case "shape":
            save_tiny_model(Path(base), hidden_size=64)
        case "config":
            (adapter / "adapter_config.json").write_text('{"peft_type": "LO')
        case "no base":
            (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        case "type":
            (adapter / "adapter_config.json").write_text('{"peft_type": "NEWEST"}')
        case "record":
            (adapter / "environment.json").write_text("{")
    return adapter


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("prompt", "is a prompt-learning adapter: it changes no weights"),
        ("weights", "cannot be loaded onto"),
        ("no weights", "has no weights (adapter_model.safetensors)"),
        ("shape", "it was trained on another base"),
        ("config", "adapter_config.json` cannot be read"),
        ("no base", "adapter_config.json names no base"),
        ("type", "is not an adapter's configuration"),
        ("record", "environment.json` cannot be read"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused_in_words(what, message, tmp_path, capsys):
    assert message in refusal(capsys, broken(what, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
        (base, tmp_path / "out", "is not an adapter"),
        (str(lost), full, "is not empty"),
        (str(lost), tmp_path / "out", "gone' cannot be loaded"),
    ]:
        assert message in refusal(capsys, adapter, output_dir)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in full.iterdir()] == ["notes.txt"]
