"""Renders the prompt or the conversation of a row as training does, and tokenises it."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from llm_jepa.data.spans import render_chat, template_kwargs_of

Message = dict[str, str]
Prompt = str | list[Message]
"""A plain text, or the chat messages before the turn to generate."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, template_kwargs: Mapping[str, Any]) -> list[int]:
    """Token ids of a prompt: chat messages up to the start of the assistant's turn, a plain text unchanged."""
    if isinstance(prompt, str):
        return text_ids(tokenizer, prompt)
    return chat_ids(tokenizer, prompt_text(tokenizer, prompt, template_kwargs))


def prompt_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], template_kwargs: Mapping[str, Any]
) -> str:
    """Chat messages rendered up to the start of the assistant's turn."""
    return render_chat(tokenizer, list(messages), add_generation_prompt=True, **template_kwargs)


def conversation_ids(tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any]) -> list[int]:
    """Token ids of a row's `prompt` and `completion`, rendered with the row's own template arguments."""
    if isinstance(row["prompt"], str):
        ids: list[int] = tokenizer(row["prompt"] + row["completion"])["input_ids"]
        return ids
    messages = [*row["prompt"], *row["completion"]]
    return chat_ids(tokenizer, render_chat(tokenizer, messages, **template_kwargs_of(row)))


def chat_ids(tokenizer: PreTrainedTokenizerBase, rendered: str) -> list[int]:
    """Token ids of a rendered chat, whose special tokens the template has written."""
    ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    return ids


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text to be continued, without a stop token that the tokenizer appends."""
    ids: list[int] = tokenizer(text)["input_ids"]
    if ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
        return ids[:-1]
    return ids
