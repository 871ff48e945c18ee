"""Which adapters vLLM can serve: LoRA up to rank 512 on its whole base, without DoRA, biases, modules or patterns."""

from pathlib import Path

from peft import LoraConfig, PeftConfig

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values of `max_lora_rank` that vLLM accepts."""
UNSUPPORTED_OPTIONS = ("use_dora", "modules_to_save", "trainable_token_indices", "rank_pattern", "alpha_pattern")
"""Options that vLLM does not support. It ignores the patterns and scales every module by `lora_alpha` and `r`."""
INITIALISATIONS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take the first adapter away from the base."""


def max_lora_rank(directory: Path) -> int:
    """The `max_lora_rank` that an adapter needs.

    Raises:
        ValueError: vLLM does not support the adapter.
    """
    config = PeftConfig.from_pretrained(str(directory))
    if not isinstance(config, LoraConfig):
        raise ValueError(f"`{directory}` is an adapter of type {config.peft_type.value}; vLLM supports LoRA only.")
    refused = [name for name in UNSUPPORTED_OPTIONS if getattr(config, name)]
    refused += [] if config.bias == "none" else ["bias"]
    if refused:
        raise ValueError(f"`{directory}` is an adapter with `{'`, `'.join(refused)}`, which vLLM does not support.")
    if config.init_lora_weights not in INITIALISATIONS_THAT_KEEP_THE_BASE:
        raise ValueError(
            f"`{directory}` is an adapter with `init_lora_weights: {config.init_lora_weights}`, whose base lacks the "
            "adapter's first values; vLLM would add it to the whole base."
        )
    if config.r > LORA_RANKS[-1]:
        raise ValueError(f"`{directory}` is an adapter of rank {config.r}; vLLM supports up to {LORA_RANKS[-1]}.")
    return next(allowed for allowed in LORA_RANKS if allowed >= config.r)
