"""Batched greedy generation: prompts in, completions out, in the same order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from peft import PeftModel
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.models.stop_tokens import stop_token_ids

Message = dict[str, str]
Prompt = str | list[Message]
"""A plain text, or the messages of a chat up to the turn that is to be generated."""
GenerateBatch = Callable[[list[list[int]]], list[list[int]]]


@dataclass(frozen=True)
class Completion:
    """What a model wrote after one prompt.

    `text` is decoded without special tokens; `stopped` says whether a stop token ended it, rather than the
    limit of new tokens; `num_tokens` counts the generated tokens, the stop token left out.
    """

    text: str
    stopped: bool
    num_tokens: int


class Engine(ABC):
    """What continues tokenised prompts greedily.

    Attributes:
        generation_config: Of the model; its stop tokens are honoured.
        max_positions: How many positions the model can tell apart; None if its config sets no limit.
    """

    generation_config: GenerationConfig
    max_positions: int | None

    @abstractmethod
    def generating(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
    ) -> AbstractContextManager[GenerateBatch]:
        """Within it, a function from the prompts of a batch to the new ids of each, up to a stop token at least."""


class TransformersEngine(Engine):
    """`generate` of transformers, with a KV cache, in the dtype and on the device of the model."""

    def __init__(self, model: PreTrainedModel | PeftModel):
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        assert isinstance(inner, PreTrainedModel)
        self.model, self.inner = model, inner
        self.generation_config = inner.generation_config
        self.max_positions = position_limit(model)

    @contextmanager
    def generating(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
    ) -> Iterator[GenerateBatch]:
        """With the model in greedy generation, and afterwards as it was found."""
        with _greedy(self.inner, tokenizer, stop_ids, max_new_tokens):
            yield partial(_generate, self.model)


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
    """Complete every prompt greedily, by transformers or by another engine.

    Prompts of like length share a batch; the order of the result is that of `prompts`. Sampling settings and penalties
    of the model's generation config are left aside; its stop tokens are honoured, beside the tokenizer's.
    Model and tokenizer are left as they were found.

    Parameters:
        prompts: Chat messages are rendered by the chat template, up to where the assistant's turn begins; a
            plain string is tokenised as it is.
        max_new_tokens: Limit of generated tokens per prompt, the stop token included.
        batch_size: Prompts that are handed to the engine at once.
        progress: Called after each batch with its completions, by the number of their prompt.
        template_kwargs: For each prompt, what else its chat template gets (`tools`, `enable_thinking`).
        finished: Completions that are known. Batches are composed as without them, since a model may write something
            else in other company, and left out where all of their prompts are finished.

    Raises:
        ValueError: A number is below 1, a prompt is empty, or a prompt leaves no room for `max_new_tokens`.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1.")
    if template_kwargs is None:
        template_kwargs = [{}] * len(prompts)
    engine = model if isinstance(model, Engine) else TransformersEngine(model)
    prompt_ids = [
        _tokenise(tokenizer, prompt, kwargs) for prompt, kwargs in zip(prompts, template_kwargs, strict=True)
    ]
    _check_lengths([len(ids) for ids in prompt_ids], max_new_tokens, engine.max_positions)
    stop_ids = stop_token_ids(engine.generation_config, tokenizer)
    completions = dict(finished or {})
    longest_first = sorted(range(len(prompts)), key=lambda i: -len(prompt_ids[i]))
    with engine.generating(tokenizer, stop_ids, max_new_tokens) as generate_batch:
        for start in range(0, len(prompts), batch_size):
            batch = longest_first[start : start + batch_size]
            if completions.keys() >= {*batch}:
                continue
            new_ids = generate_batch([prompt_ids[i] for i in batch])
            written = {i: _decode(tokenizer, ids, stop_ids) for i, ids in zip(batch, new_ids, strict=True)}
            completions |= written
            if progress is not None:
                progress(written)
    return [completions[i] for i in range(len(prompts))]


def _tokenise(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, template_kwargs: Mapping[str, Any]) -> list[int]:
    """The ids of a prompt, as training renders it."""
    if not isinstance(prompt, str):
        encoded = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, return_dict=True, **template_kwargs
        )
        assert isinstance(encoded, BatchEncoding)
        return encoded["input_ids"]
    return text_ids(tokenizer, prompt)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that goes on. A stop token that the tokenizer appends is taken off."""
    ids: list[int] = tokenizer(text)["input_ids"]
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        return ids[:-1]
    return ids


def position_limit(model: PreTrainedModel | PeftModel) -> int | None:
    """How many positions a model can tell apart; None if its config sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _check_lengths(lengths: list[int], max_new_tokens: int, limit: int | None) -> None:
    for i, length in enumerate(lengths):
        if length == 0:
            raise ValueError(f"Prompt {i} has no tokens; a completion needs at least one to start from.")
        if limit is not None and length + max_new_tokens > limit:
            raise ValueError(
                f"Prompt {i} has {length} tokens; with max_new_tokens={max_new_tokens} it exceeds the "
                f"{limit} positions of the model. Lower `max_new_tokens`, or leave the row out."
            )


@contextmanager
def _greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int], max_new_tokens: int
) -> Iterator[None]:
    """Put the model into greedy generation for a while.

    The generation config is replaced, not passed to `generate`, which would fill what a passed one leaves
    open from the model's own: sampling temperatures, repetition penalties.
    """
    pad_id = stop_ids[0] if tokenizer.pad_token_id is None and stop_ids else tokenizer.pad_token_id
    generation_config, training = model.generation_config, model.training
    model.generation_config = GenerationConfig(
        do_sample=False,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_ids or None,
        pad_token_id=pad_id,
    )
    model.eval()
    try:
        yield
    finally:
        model.generation_config = generation_config
        model.train(training)


def _generate(model: PreTrainedModel | PeftModel, prompt_ids: list[list[int]]) -> list[list[int]]:
    """One batch through `generate`: the new ids of each prompt, with padding after a stop token."""
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
