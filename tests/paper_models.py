"""Tiny random models of the architectures that the recipes name, each with its chat template and special tokens.

What a conversation must look like is written out here by hand, token by token.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, processors
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.templates import OLMO2, SHIPPED, SMOLLM2
from tests.tiny import tiny_tokenizer

_SIZES = {
    "hidden_size": 64,  # what bitsandbytes quantises in blocks
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "initializer_range": 0.2,
}
_LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_LLAMA_PROMPT = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n{system}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{source}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)

_R1_BOS, _R1_EOS = (f"<\uff5c{edge}\u2581of\u2581sentence\uff5c>" for edge in ("begin", "end"))
_R1_USER, _R1_ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"


@dataclass(frozen=True)
class Family:
    """Models of one architecture and chat template.

    `prompt` is what no label is on, `completion` what every label is on, and nothing else is in a row; the headers are
    what stands before a view that is encoded alone.
    """

    hub_ids: tuple[str, ...]
    model_type: str
    settings: dict
    template: str
    bos: str | None
    eos: str
    pad: str | None
    special: tuple[str, ...]
    prompt: str
    completion: str
    stop: str
    source_header: str
    target_header: str
    words: tuple[str, ...] = ()
    """Tokens of their own that decoding does not leave out."""


def _llama(hub_ids: tuple[str, ...], factor: float, is_tied: bool, template: str) -> Family:
    return Family(
        hub_ids,
        "llama",
        {"tie_word_embeddings": is_tied, "rope_parameters": _LLAMA_ROPE | {"factor": factor}},
        template,
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad=None,
        special=("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
        prompt=_LLAMA_PROMPT,
        completion="{target}<|eot_id|>",
        stop="<|eot_id|>",
        source_header="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        target_header="<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>\n\n",
    )


FAMILIES = {
    "llama-3.2": _llama(
        ("meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-3B-Instruct"), 32.0, True, SHIPPED["llama3_2"]
    ),
    "llama-3.1": _llama(("meta-llama/Llama-3.1-8B-Instruct",), 8.0, False, SHIPPED["llama3_1"]),
    "gemma-2": Family(
        ("google/gemma-2-2b-it",),
        "gemma2",
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "attn_logit_softcapping": 2.0,  # as narrow as a tiny model's scores, so that a lost one shows
            "final_logit_softcapping": 3.0,
        },
        SHIPPED["gemma"],
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        special=("<start_of_turn>", "<end_of_turn>"),
        prompt="<bos><start_of_turn>user\n{source}<end_of_turn>\n<start_of_turn>model\n",
        completion="{target}<end_of_turn>\n",
        stop="<end_of_turn>",
        source_header="<bos><start_of_turn>user\n",
        target_header="<bos><start_of_turn>model\n",
    ),
    "olmo-2": Family(
        ("allenai/OLMo-2-0425-1B-Instruct", "allenai/OLMo-2-1124-7B-Instruct"),
        "olmo2",
        {"tie_word_embeddings": False, "num_key_value_heads": 4},
        OLMO2,
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|pad|>",
        special=(),
        prompt="<|endoftext|><|system|>\n{system}\n<|user|>\n{source}\n<|assistant|>\n",
        completion="{target}<|endoftext|>",
        stop="<|endoftext|>",
        source_header="<|endoftext|><|user|>\n",
        target_header="<|endoftext|><|assistant|>\n",
    ),
    "qwen3": Family(
        ("Qwen/Qwen3-1.7B",),
        "qwen3",
        {"tie_word_embeddings": True, "head_dim": 32},
        SHIPPED["qwen3"],
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        special=("<|im_start|>",),
        words=("<think>", "</think>"),
        prompt="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{source}<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n",
        completion="{target}<|im_end|>\n",
        stop="<|im_end|>",
        source_header="<|im_start|>user\n",
        target_header="<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    "r1-distill-qwen": Family(
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",),
        "qwen2",
        {"tie_word_embeddings": False, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 1},
        SHIPPED["deepseek_r1_distill"],
        bos=_R1_BOS,
        eos=_R1_EOS,
        pad=_R1_EOS,
        special=(),
        words=(_R1_USER, _R1_ASSISTANT, "<think>", "</think>"),
        prompt=_R1_BOS + "{system}" + _R1_USER + "{source}" + _R1_ASSISTANT,
        completion="{target}" + _R1_EOS,
        stop=_R1_EOS,
        source_header=_R1_BOS + _R1_USER,
        target_header=_R1_BOS + _R1_ASSISTANT,
    ),
    "smollm2": Family(
        ("smollm2-135m-instruct",),
        "llama",
        {"tie_word_embeddings": True},
        SMOLLM2,
        bos="<|im_start|>",
        eos="<|im_end|>",
        pad="<|im_end|>",
        special=(),
        prompt="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{source}<|im_end|>\n<|im_start|>assistant\n",
        completion="{target}<|im_end|>\n",
        stop="<|im_end|>",
        source_header="<|im_start|>user\n",
        target_header="<|im_start|>assistant\n",
    ),
}


def family_of(hub_id: str) -> Family:
    """The family that a recipe's model belongs to."""
    [family] = [family for family in FAMILIES.values() if hub_id in family.hub_ids]
    return family


def family_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with a family's special tokens; it puts BOS before plain text, as the real ones do."""
    backend = tiny_tokenizer().backend_tokenizer
    backend = type(backend).from_str(backend.to_str())
    named = [token for token in (family.bos, family.eos, family.pad) if token is not None]
    backend.add_special_tokens([*named, *family.special])
    backend.add_tokens([AddedToken(word, normalized=False) for word in family.words])
    if family.bos is not None and family.bos != family.eos and "im_start" not in family.bos:
        bos = (family.bos, backend.token_to_id(family.bos))
        backend.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=[bos])
    tokens = {"bos_token": family.bos, "eos_token": family.eos, "pad_token": family.pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: token for name, token in tokens.items() if token is not None}
    )
    tokenizer.chat_template = family.template
    return tokenizer


def save_family(family: Family, directory: Path) -> str:
    """Write a tiny random model of a family, with its tokenizer, as a plain model directory."""
    tokenizer = family_tokenizer(family)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family.model_type](vocab_size=len(tokenizer), **_SIZES | family.settings | ids)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)  # so that attention and caps matter
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)
