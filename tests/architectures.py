"""Tiny random models of the architectures that the layouts must serve, with weights for which attention matters."""

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from tests.devices import DEVICE

VOCABULARY_TOKENS = 48
WINDOW_TOKENS = 6
"""Sliding windows are shorter than the tests' sequences, so that a window that is lost shows."""

_SIZES = {
    "vocab_size": VOCABULARY_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MIXED_LAYERS = {"sliding_window": WINDOW_TOKENS, "layer_types": ["sliding_attention", "full_attention"]}
_LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_PER_LAYER_INPUTS = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY_TOKENS}

# Name -> model type, settings.
ARCHITECTURES = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW_TOKENS, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "mistral": ("mistral", {"sliding_window": WINDOW_TOKENS}),
    "gemma2": ("gemma2", {"head_dim": 8, "attn_implementation": "eager", **_MIXED_LAYERS}),
    "gemma3": ("gemma3_text", {"head_dim": 8, **_MIXED_LAYERS}),
    "olmo2": ("olmo2", {}),
    "phi": ("phi", {}),
    "gpt2": ("gpt2", {"n_positions": 128}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "qwen3-moe": (
        "qwen3_moe",
        {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    ),
    "olmoe": ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "mamba2": ("mamba2", {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8}),
    "falcon-h1": (
        "falcon_h1",
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8},
    ),
    "qwen3-next": (
        "qwen3_next",
        {
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
            "layer_types": ["linear_attention", "full_attention"],
            **_LINEAR_ATTENTION,
        },
    ),
    "gpt-neo": ("gpt_neo", {"attention_types": [[["global", "local"], 1]], "window_size": 256}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "gemma4": ("gemma4_text", {"head_dim": 8, "num_kv_shared_layers": 0, **_PER_LAYER_INPUTS, **_MIXED_LAYERS}),
}


def tiny_model(name: str, seed: int = 0, dtype: torch.dtype = torch.float32, **overrides) -> PreTrainedModel:
    """A random model of width 32 on the tests' device, in evaluation mode, by its name in `ARCHITECTURES`."""
    model_type, settings = ARCHITECTURES[name]
    settings = {**_SIZES, **settings, **overrides}
    attention = (
        {"attn_implementation": settings.pop("attn_implementation")} if "attn_implementation" in settings else {}
    )
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[model_type](**settings)
    model = AutoModelForCausalLM.from_config(config, **attention)
    for parameter in model.parameters():
        if parameter.dim() in (2, 3):  # 3: the experts of a mixture
            nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
    return model.to(DEVICE, dtype).eval()
