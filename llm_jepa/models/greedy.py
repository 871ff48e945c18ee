"""Greedy generation, whatever a model's own generation config says."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import GenerationConfig, PreTrainedModel


@contextmanager
def greedy_generation(
    model: PreTrainedModel,
    stop_ids: list[int],
    pad_id: int | None,
    max_new_tokens: int,
    prompt_lookup_num_tokens: int | None = None,
) -> Iterator[None]:
    """Have `generate` be greedy within the context.

    The generation config is replaced and not passed to `generate`, which would add the model's own sampling
    temperatures and repetition penalties to a passed one.

    Args:
        model: Without a PEFT wrapper.
        stop_ids: The tokens that end a text.
        pad_id: The token of padding; None for the first stop token.
        max_new_tokens: Limit of a text, the stop token included.
        prompt_lookup_num_tokens: How many tokens are proposed from the prompt at most; None for none.
    """
    own = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids or None,
        pad_token_id=stop_ids[0] if pad_id is None and stop_ids else pad_id,
        prompt_lookup_num_tokens=prompt_lookup_num_tokens,
    )
    try:
        yield
    finally:
        model.generation_config = own
