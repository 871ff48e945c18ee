"""The tokens that end a text."""

import logging

from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from llm_jepa.data.spans import MARKER, render_chat

logger = logging.getLogger(__name__)


def stop_token_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion.

    They are those of the generation config, the stop token of the tokenizer, and the token with which its chat
    template ends an answer (`answer_end_id`).
    """
    ids = {*_configured(generation_config), tokenizer.eos_token_id, answer_end_id(tokenizer)}
    return sorted(ids - {None})


def answer_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token with which the chat template ends an answer; None if there is no template or no such token.

    Example: `<|im_end|>` of ChatML, which writes a newline after it.
    """
    if tokenizer.chat_template is None:
        return None
    turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": MARKER}]
    try:
        end = render_chat(tokenizer, turns).rpartition(MARKER)[2].rstrip()
    except (ValueError, TypeError):  # it takes no turns of text: contents in parts, other roles
        return None
    ids = tokenizer(end, add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    return ids[-1] if ids and ids[-1] in added and added[ids[-1]].special else None


def completion_end_id(tokenizer: PreTrainedTokenizerBase, is_chat: bool) -> int | None:
    """The token that training has after a completion; None if the tokenizer has none.

    TRL appends EOS to a plain string. In a chat it is that of `answer_end_id`, or EOS if the template writes none.
    """
    end = answer_end_id(tokenizer) if is_chat else None
    return tokenizer.eos_token_id if end is None else end


def keep_answer_end(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the end of an answer a stop token of a model that is saved, and log it, if it is none.

    Base models often have a chat template with one end of turn, and another token as EOS.
    """
    configured, end = _configured(generation_config), answer_end_id(tokenizer)
    if end is None or end in (*configured, tokenizer.eos_token_id):
        return
    generation_config.eos_token_id = [*(configured or [tokenizer.eos_token_id]), end]
    name = tokenizer.convert_ids_to_tokens(end)
    logger.info(
        "Answers end with %r, which is no stop token of the model. A saved model has it as one, and so have `eval` "
        "and `merge`. To serve an adapter itself, give it as a stop token, or train with `eos_token: %s`.", name, name,
    )  # fmt: skip


def generation_config_of(location: str, revision: str | None, config: PretrainedConfig) -> GenerationConfig:
    """The generation config of a model's directory or Hub id, or what transformers derives from the model's config."""
    try:
        return GenerationConfig.from_pretrained(location, revision=revision or "main")
    except OSError:
        return GenerationConfig.from_model_config(config)


def _configured(generation_config: GenerationConfig) -> list[int]:
    ids = generation_config.eos_token_id
    return [] if ids is None else list(ids) if isinstance(ids, list) else [ids]
