"""Chat templates to make views with: those that TRL ships, and literal ones of families that it does not."""

import copy
from pathlib import Path

import trl
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from tests.tiny import CHATML, PAIRS, tiny_tokenizer

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
    "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
OLMO2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
LLAMA3_DATE = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: {{ strftime_now('%d %b %Y') }}\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% endif %}<|eot_id|>"
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim }}<|eot_id|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PLAIN_WORDS = (
    "{% for message in messages %}{{ {'system': '', 'user': 'Q: ', 'assistant': 'A: '}[message['role']] }}"
    "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
)
"""No special tokens at all: tokens may merge across every boundary."""

LITERAL = {
    "chatml": CHATML,
    "smollm2": SMOLLM2,
    "mistral": MISTRAL,
    "llama2": LLAMA2,
    "zephyr": ZEPHYR,
    "olmo2": OLMO2,
    "llama3-date": LLAMA3_DATE,
    "plain-words": PLAIN_WORDS,
}
SHIPPED = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
}
TAKES_NO_TEXT = {name for name in SHIPPED if name.startswith(("idefics3", "llava_next", "smolvlm"))}
"""Templates of vision models, which take lists of text and images as content."""

TEXT_TEMPLATES = LITERAL | {name: text for name, text in SHIPPED.items() if name not in TAKES_NO_TEXT}
TAKES_NO_SYSTEM_TURN = {"mistral", "gemma", "gemma_training"}


SOURCE, TARGET = "lines with a number", ".*[0-9].*"


def with_template(template: str | None, tokenizer: PreTrainedTokenizerFast | None = None) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer with a chat template, and a BOS token that no header begins with."""
    tokenizer = copy.deepcopy(tokenizer or tiny_tokenizer())
    tokenizer.chat_template = template
    tokenizer.bos_token = "<|endoftext|>"
    return tokenizer


def greedy_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without any pre-tokenisation: its tokens run over spaces, newlines and the end of a view."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((f"Q: {pair['source']}\nA: {pair['target']}\n" for pair in PAIRS), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def chat_row(tokenizer, source=SOURCE, target=TARGET, before=(), **columns) -> dict:
    """A chat as TRL tokenises it; `before` are the turns that precede the source."""
    prompt = [*before, {"role": "user", "content": source}]
    completion = [{"role": "assistant", "content": target}]
    input_ids = tokenizer.apply_chat_template(
        prompt + completion, return_dict=True, tools=columns.get("tools"), **columns.get("chat_template_kwargs", {})
    )["input_ids"]
    return {
        "prompt": prompt,
        "completion": completion,
        "source": source,
        "target": target,
        "input_ids": input_ids,
        **columns,
    }


def plain_row(tokenizer, source: str, separator: str, target: str, before: str = "") -> dict:
    prompt = before + source + separator
    input_ids = tokenizer(prompt + target)["input_ids"]
    return {"prompt": prompt, "completion": target, "source": source, "target": target, "input_ids": input_ids}
