"""Tiny random models and a tokenizer trained on the spot: all that the tests need, without a network."""

import functools
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Like SmolLM2's: a default system prompt, a newline after the stop token, bos == <|im_start|>, pad == eos."""

PAIRS = [
    {"source": "lines with a number", "target": ".*[0-9].*"},
    {"source": "lines with a vowel at least once", "target": "(.*[AEIOUaeiou].*)+"},
    {"source": "lines starting with the string 'dog'", "target": "(dog)(.*)"},
    {"source": "lines ending with a capital letter", "target": "(.*)([A-Z])"},
    {"source": "lines with words with a letter before a number", "target": r"\b([A-Za-z]).*([0-9]).*\b"},
    {"source": "lines not containing 'truck' or a character", "target": "~((truck)|(.))"},
    {"source": "lines with 'ring' and a lower-case letter", "target": "(ring)&([a-z])"},
    {"source": "lines containing only a vowel", "target": "[AEIOUaeiou]"},
]


@functools.cache
def tiny_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 320 tokens with ChatML's special tokens. Do not modify the cached object."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for pair in PAIRS for text in pair.values()), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_llama(seed: int = 0, **overrides) -> LlamaForCausalLM:
    """A random two-layer Llama of width 32 whose vocabulary is the tiny tokenizer's."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | overrides))


def save_tiny_model(directory: Path, **overrides) -> str:
    """Write a tiny Llama and its tokenizer as a plain model directory."""
    tiny_llama(**overrides).save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return str(directory)
