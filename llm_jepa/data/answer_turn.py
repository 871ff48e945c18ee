"""The turn of an answer as the chat template renders it in its conversation."""

from typing import TYPE_CHECKING, Any

from llm_jepa.data.spans import render_chat, unused_marker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rewritten_answer(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    index: int,
    header: str,
    template_kwargs: dict[str, Any],
) -> str | None:
    """The turn at `index`, from its header to the end of its content, if the template does not write it as it is.

    Templates of models that reason write `<think>` blocks in other ways than a content has them, leave them out, or
    write a field `reasoning_content` before the content.

    Example, with the header `<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n` of Qwen3:
        the content "<think>7</think>8" is rendered as "<|im_start|>assistant\\n<think>\\n7\\n</think>\\n\\n8".

    Args:
        header: What the template writes before the content of an answer, without BOS.
        template_kwargs: Its further arguments.

    Returns:
        None if header and content stand there as they are, or if the turn is not found.
    """
    message = messages[index]
    content = message["content"].strip()
    text = render_chat(tokenizer, messages, **template_kwargs)
    if header + content in text and message.keys() <= {"role", "content"}:
        return None
    marker = unused_marker(text)

    def around_marker(marked: dict[str, Any]) -> tuple[str, str]:
        others = [*messages[:index], marked, *messages[index + 1 :]]
        before, _, after = render_chat(tokenizer, others, **template_kwargs).partition(marker)
        return before, after

    before, _ = around_marker({"role": message["role"], "content": marker})
    _, after = around_marker({**message, "content": marker})
    start, end = len(before) - len(header), len(text) - len(after)
    is_found = before.endswith(header) and text.startswith(before[:start]) and text.endswith(after)
    turn = text[start:end].rstrip()
    if not is_found or not turn or (turn.startswith(header) and turn.removeprefix(header).strip() == content):
        return None
    return turn
