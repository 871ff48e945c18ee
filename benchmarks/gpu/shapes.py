"""Llama-shaped models as directories that hold a config and a tokenizer: all that random weights need."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models
from transformers import LlamaConfig, PreTrainedTokenizerFast

SMOLLM2_135M = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
}
SHAPES: dict[str, dict[str, Any]] = {
    "135M": SMOLLM2_135M,
    "135M-6-layers": SMOLLM2_135M | {"num_hidden_layers": 6},
    "1B": {
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128256,
    },
    "tiny": {
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 256,
    },
}
"""Name -> sizes: SmolLM2-135M, its first layers, Llama-3.2-1B, and one to try the scripts with. All tie embeddings."""


def write_model(shape: str, directory: Path) -> str:
    """Write config and tokenizer of a shape; returns the directory."""
    sizes = SHAPES[shape]
    # Without a padding token: its embedding would be zero, and each norm multiplies a gradient at zero by 1,000.
    config = LlamaConfig(
        **sizes,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(directory)
    words = {f"w{i}": i for i in range(sizes["vocab_size"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="w0", eos_token="w1", pad_token="w1", unk_token="w2"
    ).save_pretrained(directory)
    return str(directory)
