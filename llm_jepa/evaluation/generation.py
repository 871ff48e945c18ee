"""Generates greedily in batches: prompts to completions, in the same order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.prompts import Prompt, prompt_ids
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.greedy import greedy_generation
from llm_jepa.models.loading import position_limit
from llm_jepa.models.stop_tokens import stop_token_ids

GenerateBatch = Callable[[list[list[int]]], list[list[int]]]
"""Token ids of the prompts of a batch -> new token ids of each."""


@dataclass(frozen=True)
class Completion:
    """What a model generated for one prompt.

    Attributes:
        text: Decoded without special tokens.
        stopped: Whether a stop token ended it, and not the limit of new tokens.
        num_tokens: Generated tokens without the stop token.
    """

    text: str
    stopped: bool
    num_tokens: int


class Engine(ABC):
    """Generates greedily from tokenised prompts.

    Attributes:
        generation_config: The model's; its stop tokens are used.
        max_positions: Longest sequence in tokens; None if the model's config sets no limit.
    """

    generation_config: GenerationConfig
    max_positions: int | None

    @abstractmethod
    def generating(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
    ) -> AbstractContextManager[GenerateBatch]:
        """A context that gives the function to generate with. It may generate on after a stop token."""


class TransformersEngine(Engine):
    """Generates with transformers' `generate` and a KV cache, in the model's dtype and on its device."""

    def __init__(self, model: PreTrainedModel | PeftModel):
        inner = without_adapter(model)
        self.model, self.inner = model, inner
        self.generation_config = inner.generation_config
        self.max_positions = position_limit(model.config)

    @contextmanager
    def generating(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
    ) -> Iterator[GenerateBatch]:
        """Set the model to greedy generation, and restore it afterwards."""
        training = self.inner.training
        self.inner.eval()
        try:
            with greedy_generation(self.inner, stop_ids, tokenizer.pad_token_id, max_new_tokens):
                yield partial(_generate, self.model)
        finally:
            self.inner.train(training)


def generate_completions(
    model: PreTrainedModel | PeftModel | Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[Mapping[int, Completion]], None] | None = None,
    template_kwargs: Sequence[Mapping[str, Any]] | None = None,
    finished: Mapping[int, Completion] | None = None,
) -> list[Completion]:
    """Complete every prompt greedily, with transformers or another engine.

    Prompts of similar length share a batch; the result has the order of `prompts`. The stop tokens of the model's
    generation config and of the tokenizer are used; sampling settings and penalties are ignored. Model and tokenizer
    are restored afterwards.

    Parameters:
        prompts: Chat messages are rendered by the chat template up to the start of the assistant's turn; a plain
            string is tokenised unchanged.
        max_new_tokens: Limit of generated tokens per prompt, the stop token included.
        batch_size: Prompts per call of the engine.
        progress: Called after each batch with its completions, by prompt index.
        template_kwargs: For each prompt, further arguments of its chat template (`tools`, `enable_thinking`).
        finished: Known completions, by prompt index. They do not change how batches are composed, since the other
            prompts of a batch can change a completion; a batch is skipped if all of its prompts are finished.

    Raises:
        ValueError: A number is below 1, a prompt is empty, or a prompt leaves no room for `max_new_tokens`.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1.")
    if template_kwargs is None:
        template_kwargs = [{}] * len(prompts)
    engine = model if isinstance(model, Engine) else TransformersEngine(model)
    ids_of_prompts = ids_with_room(tokenizer, prompts, template_kwargs, max_new_tokens, engine.max_positions)
    stop_ids = stop_token_ids(engine.generation_config, tokenizer)
    completions = dict(finished or {})
    longest_first = sorted(range(len(prompts)), key=lambda i: -len(ids_of_prompts[i]))
    with engine.generating(tokenizer, stop_ids, max_new_tokens) as generate_batch:
        for start in range(0, len(prompts), batch_size):
            batch = longest_first[start : start + batch_size]
            if completions.keys() >= {*batch}:
                continue
            new_ids = generate_batch([ids_of_prompts[i] for i in batch])
            written = {i: _decode(tokenizer, ids, stop_ids) for i, ids in zip(batch, new_ids, strict=True)}
            completions |= written
            if progress is not None:
                progress(written)
    return [completions[i] for i in range(len(prompts))]


def ids_with_room(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    template_kwargs: Sequence[Mapping[str, Any]],
    max_new_tokens: int,
    max_positions: int | None,
) -> list[list[int]]:
    """The tokens of each prompt.

    Raises:
        ValueError: A prompt is empty, or leaves no room for `max_new_tokens` among the model's positions.
    """
    found = [prompt_ids(tokenizer, prompt, kwargs) for prompt, kwargs in zip(prompts, template_kwargs, strict=True)]
    for i, ids in enumerate(found):
        if not ids:
            raise ValueError(f"Prompt {i} has no tokens; a completion needs at least one to start from.")
        if max_positions is not None and len(ids) + max_new_tokens > max_positions:
            raise ValueError(
                f"Prompt {i} has {len(ids)} tokens; with max_new_tokens={max_new_tokens} it exceeds the "
                f"{max_positions} positions of the model. Lower `max_new_tokens`, or leave the row out."
            )
    return found


def _generate(model: PreTrainedModel | PeftModel, prompt_ids: list[list[int]]) -> list[list[int]]:
    """The new token ids of each prompt of a batch, padded after a stop token."""
    rows = [torch.tensor(ids) for ids in prompt_ids]
    masks = [torch.ones_like(row) for row in rows]
    input_ids_BL, attention_mask_BL = (
        pad_sequence(tensors, batch_first=True, padding_side="left").to(model.device) for tensors in (rows, masks)
    )
    generate = cast(Callable[..., torch.Tensor], model.generate)
    output_BL = generate(input_ids=input_ids_BL, attention_mask=attention_mask_BL)
    return output_BL[:, input_ids_BL.shape[1] :].tolist()


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int], stop_ids: list[int]) -> Completion:
    end = next((i for i, token_id in enumerate(ids) if token_id in stop_ids), len(ids))
    text = tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return Completion(text=text, stopped=end < len(ids), num_tokens=end)
