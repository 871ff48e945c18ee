"""Locates the contents of the source and the target in a tokenised conversation.

A span is [start, end): the positions of the tokens of a view's text, without the tokens that the chat template adds.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jinja2.exceptions import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKER = "CONTENTMARKER"
"""Stands for a content whose place in a rendered text is looked for."""
_COLUMN_OF_VIEW = {"source": "prompt", "target": "completion"}
"""View -> the column that holds its turn."""
SourceTurn = Literal["last", "first"]
Offsets: TypeAlias = list[tuple[int, int]]
"""The characters [begin, end) of each token."""


class SpanMaker:
    """Finds the spans of both views in rows that TRL has tokenised.

    Args:
        tokenizer: Its chat template and its character offsets are used.
        remedy: What to do if a view cannot be located, for messages.
        source_turn: Which user turn of a prompt is the source.

    Raises:
        ValueError: The tokenizer has no offsets, or a view cannot be located in the conversation.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", remedy: str, source_turn: SourceTurn = "last"):
        if not tokenizer.is_fast:
            raise ValueError(
                "Views are located in a conversation by character offsets, which only fast tokenizers have; "
                f"{type(tokenizer).__name__} is a slow one. {remedy}"
            )
        self.tokenizer = tokenizer
        self.remedy = remedy
        self.source_turn = source_turn

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """`source_span` and `target_span` of a row with `prompt`, `completion`, `source`, `target` and `input_ids`.

        The row's first token, which has no token before it, belongs to neither span. A token that holds the end of the
        source and the beginning of the target belongs to the source alone.
        """
        spans, taken = {}, 1
        for view in _COLUMN_OF_VIEW:
            start, end = (max(bound, taken) for bound in self.locate(row, view))
            spans[f"{view}_span"], taken = [start, end], end
        return spans

    def locate(self, row: dict[str, Any], view: str) -> tuple[int, int]:
        """The span of one view: the tokens with at least one of its characters."""
        content, start_char, offsets = self.find(row, view)
        inside = tokens_inside(offsets, start_char, start_char + len(content))
        return inside[0], inside[-1] + 1

    def find(self, row: dict[str, Any], view: str) -> tuple[str, int, Offsets]:
        """A view's content, the character of the conversation at which it begins, and the offsets of the tokens."""
        text, start_char, is_chat = self._find_content(row, view)
        content = row[view].strip()
        start_char += len(text[start_char:]) - len(text[start_char:].lstrip())
        if not text.startswith(content, start_char):
            raise ValueError(
                f"the chat template rewrites the {view}, so it cannot be found in the conversation: expected "
                f"{content[:60]!r}, rendered {text[start_char : start_char + 60]!r}. {self.remedy}"
            )
        offsets = self.offsets(text, row["input_ids"], is_chat)
        if offsets is None:
            raise ValueError(
                f"the chat template's text does not tokenise to the conversation's tokens, so the {view} cannot be "
                f"located. {self.remedy}"
            )
        return content, start_char, offsets

    def offsets(self, text: str, input_ids: list[int], is_chat: bool) -> Offsets | None:
        """The characters [begin, end) of each token of a text; None if its tokens are not those given."""
        encoded = self.tokenizer(text, add_special_tokens=not is_chat, return_offsets_mapping=True)
        ids = encoded["input_ids"]
        return encoded["offset_mapping"] if ids[: len(input_ids)] == input_ids[: len(ids)] else None

    def _find_content(self, row: dict[str, Any], view: str) -> tuple[str, int, bool]:
        """The conversation's text, the character at which a view's content begins, and whether it is a chat."""
        prompt, completion = row["prompt"], row["completion"]
        if isinstance(prompt, str):
            start_char = prompt.rindex(row["source"]) if view == "source" else len(prompt)
            return prompt + completion, start_char, False
        kwargs = template_kwargs_of(row)
        text = render_chat(self.tokenizer, [*prompt, *completion], **kwargs)
        column = _COLUMN_OF_VIEW[view]
        if view == "source":
            turn = source_turn_index(prompt, self.source_turn)
        else:
            turn = max(i for i, message in enumerate(completion) if message["role"] == "assistant")
        marked = {name: [dict(message) for message in row[name]] for name in ("prompt", "completion")}
        marked[column][turn]["content"] = marker = unused_marker(text)
        header, _, _ = render_chat(self.tokenizer, marked["prompt"] + marked["completion"], **kwargs).partition(marker)
        return text, len(header), True


def tokens_inside(offsets: Offsets, start_char: int, end_char: int) -> list[int]:
    """The tokens with at least one character in [start_char, end_char)."""
    return [i for i, (begin, end) in enumerate(offsets) if begin < end_char and end > start_char]


def source_turn_index(prompt: list[dict[str, Any]], source_turn: SourceTurn) -> int:
    """The index of the prompt's user turn that is the source.

    Raises:
        ValueError: There is no user turn.
    """
    turns = [i for i, message in enumerate(prompt) if message["role"] == "user"]
    if not turns:
        raise ValueError(f"there is no user turn among the roles {[message['role'] for message in prompt]}.")
    return turns[-1 if source_turn == "last" else 0]


def spans_of_text(input_ids: list[int], special_ids: Collection[int]) -> dict[str, list[int]]:
    """The spans of a plain text: the whole text is the source, and the target is empty.

    Special tokens at both ends are left out, and so is the first token, since a path needs a token before it. Example,
    with 1 as BOS and 2 as EOS: the source of [1, 7, 8, 9, 2] is [1, 4), and so is that of [5, 7, 8, 9, 2].
    """
    inside = [i for i, token_id in enumerate(input_ids) if token_id not in special_ids]
    start, end = (max(1, inside[0]), inside[-1] + 1) if inside else (1, 1)
    end = max(start, end)
    return {"source_span": [start, end], "target_span": [end, end]}


def template_kwargs_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that TRL's `SFTTrainer` passes to a row's chat template, beside the messages."""
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    return {"tools": tools, **(row.get("chat_template_kwargs") or {})}


def unused_marker(text: str) -> str:
    """A marker that is not in a text: longer than any there."""
    return MARKER * (1 + text.count(MARKER))


def written_turns(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns without the keys that other turns alone have, which Arrow holds as nulls: a template would read them."""
    return [
        {key: value for key, value in message.items() if value is not None or key == "content"} for message in messages
    ]


def render_chat(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], **kwargs: Any) -> str:
    """Render messages with the tokenizer's chat template.

    Raises:
        ValueError: The template raises an error.
    """
    apply: Callable[..., Any] = tokenizer.apply_chat_template
    try:
        return apply(written_turns(messages), tokenize=False, **kwargs)
    except (TemplateError, TypeError) as error:
        roles = [message["role"] for message in messages]
        raise ValueError(f"the chat template cannot render the turns {roles}: {error}") from error
