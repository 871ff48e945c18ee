"""The text that a chat template writes before the content of a turn, of every shipped template."""

import pytest

from llm_jepa.data.views import (
    TurnHeaders,
    read_turn_headers,
)
from tests.templates import (
    TEXT_TEMPLATES,
    with_template,
)
from tests.tiny import CHATML, tiny_tokenizer

BOS = "<|endoftext|>"

CHATML_HEADERS = ("<|im_start|>user\n", "<|im_start|>assistant\n")
LLAMA3_HEADERS = (
    f"{BOS}<|start_header_id|>user<|end_header_id|>\n\n",
    f"{BOS}<|start_header_id|>assistant<|end_header_id|>\n\n",
)
HEADERS = {
    "chatml": CHATML_HEADERS,
    "smollm2": CHATML_HEADERS,
    "qwen2_5": CHATML_HEADERS,
    "qwen3": ("<|im_start|>user\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "lfm2": (f"{BOS}<|im_start|>user\n", f"{BOS}<|im_start|>assistant\n"),
    "llama2": (f"{BOS}[INST] ", f"{BOS} "),
    "llama3": LLAMA3_HEADERS,
    "llama3_2": LLAMA3_HEADERS,
    "llama3-date": LLAMA3_HEADERS,
    "mistral": (f"{BOS}[INST] ", BOS),
    "gemma": (f"{BOS}<start_of_turn>user\n", f"{BOS}<start_of_turn>model\n"),
    "gemma3": (f"{BOS}<start_of_turn>user\n", f"{BOS}<start_of_turn>model\n"),
    "zephyr": ("<|user|>\n", "<|assistant|>\n"),
    "olmo2": (f"{BOS}<|user|>\n", f"{BOS}<|assistant|>\n"),
    "phi3": ("<|user|>\n", "<|assistant|>\n"),
    "glm4moe": ("<|user|>\n", "<|assistant|>\n<think></think>\n"),
    "gptoss": ("<|start|>user<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    "deepseekv3": (f"{BOS}<｜User｜>", f"{BOS}<｜Assistant｜>"),  # noqa: RUF001
    "cohere": (
        f"{BOS}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
        f"{BOS}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    "plain-words": ("Q: ", "A: "),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_what_the_template_writes_before_a_turn(name):
    assert read_turn_headers(with_template(TEXT_TEMPLATES[name])) == TurnHeaders(*HEADERS[name])


def test_a_header_that_begins_with_the_bos_token_gets_no_second_one():
    """SmolLM2's BOS is `<|im_start|>`, with which each of its turns begins."""
    assert tiny_tokenizer().bos_token == "<|im_start|>"
    assert read_turn_headers(tiny_tokenizer()) == TurnHeaders(*CHATML_HEADERS)


def test_a_tokenizer_without_bos_and_eos_tokens_has_headers():
    tokenizer = with_template(CHATML)
    tokenizer.bos_token = tokenizer.eos_token = None
    assert read_turn_headers(tokenizer) == TurnHeaders(*CHATML_HEADERS)
