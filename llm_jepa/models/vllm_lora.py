"""Which adapters vLLM serves: LoRA up to rank 512, without DoRA, biases, whole modules or patterns."""

from pathlib import Path

from peft import LoraConfig, PeftConfig

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`."""
UNSUPPORTED_OPTIONS = ("use_dora", "modules_to_save", "trainable_token_indices", "rank_pattern", "alpha_pattern")
"""Of the patterns vLLM knows nothing: it scales every module by the one `lora_alpha` and the one `r`."""


def max_lora_rank(directory: Path) -> int:
    """The `max_lora_rank` that an adapter needs.

    Raises:
        ValueError: vLLM does not take such an adapter.
    """
    config = PeftConfig.from_pretrained(str(directory))
    if not isinstance(config, LoraConfig):
        raise ValueError(f"`{directory}` is an adapter of type {config.peft_type.value}; vLLM takes LoRA alone.")
    refused = [name for name in UNSUPPORTED_OPTIONS if getattr(config, name)]
    refused += [] if config.bias == "none" else ["bias"]
    if refused:
        raise ValueError(f"`{directory}` is an adapter with `{'`, `'.join(refused)}`, which vLLM does not take.")
    if config.r > LORA_RANKS[-1]:
        raise ValueError(f"`{directory}` is an adapter of rank {config.r}; vLLM takes up to {LORA_RANKS[-1]}.")
    return next(allowed for allowed in LORA_RANKS if allowed >= config.r)
