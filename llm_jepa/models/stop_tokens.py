"""The tokens that end a text."""

from transformers import GenerationConfig, PreTrainedTokenizerBase


def stop_token_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion: those of the generation config, and the stop token of the tokenizer."""
    configured = generation_config.eos_token_id
    ids = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    return sorted(ids - {None})
