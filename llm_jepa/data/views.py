"""Makes the views of a row: token ids of the source and of the target, cut at the readout.

A view ends with the last token of its content, so its readout is its last position. Tokens that a template adds after
the content would not change it, because attention is causal. Predictor tokens are added later
(`with_predictor_tokens`), since they are not in the vocabulary.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from llm_jepa.data.answer_turn import rewritten_answer
from llm_jepa.data.spans import SourceTurn, SpanMaker, render_chat, template_kwargs_of

IGNORED_LABEL = -100
_MARKERS = ("FIRSTVIEWMARKER", "SECONDVIEWMARKER", "THIRDVIEWMARKER", "FOURTHVIEWMARKER")


@dataclass(frozen=True)
class TokenSequence:
    """Token ids in order; `slots[i]` is 0 for a vocabulary token, j for the j-th predictor token (from 1).

    The sequence is read out at its last token or, given `mean_start`, as the mean from that token to the last.
    """

    token_ids: tuple[int, ...]
    slots: tuple[int, ...]
    mean_start: int | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class View:
    """A view without predictor tokens: its ids end with the content's last token; `start` is its first."""

    token_ids: list[int]
    start: int


@dataclass(frozen=True)
class TurnHeaders:
    """The text that a chat template writes before the content of a first turn, without system prompt or date."""

    user: str
    assistant: str


def with_predictor_tokens(
    token_ids: list[int],
    start: int,
    num_tokens: int,
    position: Literal["append", "prepend"],
    placeholder_id: int,
) -> TokenSequence:
    """Insert `num_tokens` predictor tokens after the content or before it.

    Example: ids [5, 14, 28] with the content from 1 and two tokens, appended: ids [5, 14, 28, p, p], slots
    [0, 0, 0, 1, 2]; prepended: ids [5, p, p, 14, 28], slots [0, 1, 2, 0, 0].
    """
    at = len(token_ids) if position == "append" else start
    ids = (*token_ids[:at], *(placeholder_id,) * num_tokens, *token_ids[at:])
    slots = (*(0,) * at, *range(1, num_tokens + 1), *(0,) * (len(token_ids) - at))
    return TokenSequence(ids, slots)


class ViewMaker:
    """Makes the views of rows, for one tokenizer and one kind of source view.

    Args:
        tokenizer: Its chat template is used for chats; plain strings need none.
        source_view: `alone` encodes the source by itself; `prefix` takes the conversation up to the end of the source.
        source_turn: Which user turn is the source.

    Raises:
        ValueError: The template cannot render a view, or the source cannot be located in the conversation.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source_view: Literal["alone", "prefix"],
        source_turn: SourceTurn = "last",
    ):
        self.tokenizer = tokenizer
        self.source_view = source_view
        if source_view == "prefix":
            self._spans = SpanMaker(tokenizer, "Use `jepa_source_view: alone`.", source_turn)
        self._headers: dict[str, TurnHeaders] = {}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Add `source_ids`, `source_start`, `target_ids`, `target_start` to a row that TRL has tokenised.

        The row's `source_view` and `target_view`, if there, are the views; else its `source` and `target` are. The
        target view of a chat is the assistant turn as the template renders it in the conversation.
        """
        source = self._source_prefix(row) if self.source_view == "prefix" else self._source_alone(row)
        target = self._target(row)
        return {
            "source_ids": source.token_ids,
            "source_start": source.start,
            "target_ids": target.token_ids,
            "target_start": target.start,
        }

    def _source_alone(self, row: dict[str, Any]) -> View:
        content = row.get("source_view", row["source"]).strip()
        if isinstance(row["prompt"], str):
            return self._plain(content)
        header = self._headers_of(row).user
        return self._turn(header + content, header)

    def _target(self, row: dict[str, Any]) -> View:
        content = row.get("target_view", row["target"]).strip()
        if isinstance(row["prompt"], str):
            return self._plain(content)
        header = self._headers_of(row).assistant
        bos = self.tokenizer.bos_token or ""
        bos = bos if header.startswith(bos) else ""
        if "target_view" in row:
            messages = [{"role": "user", "content": row["source_view"]}, {"role": "assistant", "content": content}]
        else:
            messages = [*row["prompt"], *row["completion"]]
        index = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        turn = rewritten_answer(self.tokenizer, messages, index, header.removeprefix(bos), template_kwargs_of(row))
        return self._turn(header + content if turn is None else bos + turn, header)

    def _headers_of(self, row: dict[str, Any]) -> TurnHeaders:
        kwargs = row.get("chat_template_kwargs") or {}
        key = json.dumps(kwargs, sort_keys=True, default=str)
        if key not in self._headers:
            self._headers[key] = read_turn_headers(self.tokenizer, kwargs)
        return self._headers[key]

    def _turn(self, text: str, header: str) -> View:
        # Header and content are tokenised together, as in a conversation: cutting the text would change its tokens.
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        header_ids = self.tokenizer(header, add_special_tokens=False)["input_ids"] if header else []
        return View(ids, min(common_prefix_length(ids, header_ids), len(ids) - 1))

    def _plain(self, content: str) -> View:
        ids = self.tokenizer(content)["input_ids"]
        bare_ids = self.tokenizer(content, add_special_tokens=False)["input_ids"]
        starts = (i for i in range(len(ids)) if bare_ids and ids[i : i + len(bare_ids)] == bare_ids)
        start = next(starts, None)
        if start is None:
            raise ValueError(
                f"the tokenizer gives {content[:60]!r} the tokens {bare_ids[:20]}, but with its special tokens "
                f"{ids[:20]}, which do not contain them. The content cannot be located. Use another tokenizer, or "
                "chat messages."
            )
        return View(ids[: start + len(bare_ids)], start)

    def _source_prefix(self, row: dict[str, Any]) -> View:
        start, end = self._spans.locate(row, "source")
        return View(row["input_ids"][:end], start)


def read_turn_headers(
    tokenizer: PreTrainedTokenizerBase, template_kwargs: Mapping[str, Any] = MappingProxyType({})
) -> TurnHeaders:
    """Find the text that a chat template writes before the content of a user turn and of an assistant turn.

    Four marked turns are rendered. Between the second and the third is the end of an assistant turn, then the header
    of a user turn, and so on. With ChatML: `<|im_end|>\\n` + `<|im_start|>user\\n`. The end of a turn is the text
    after the last marker of a conversation that stops there; the header is the rest. Between two turns there is no
    system turn, so no default prompt and no date. If the conversation starts with BOS, so does a header.

    Raises:
        ValueError: The template fails, or does not render the turns in order.
    """
    roles = ("user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": marker} for role, marker in zip(roles, _MARKERS, strict=True)]
    text = render_chat(tokenizer, messages, **template_kwargs)
    starts = [text.find(marker) for marker in _MARKERS]
    if -1 in starts or starts != sorted(starts):
        raise ValueError(
            "the chat template cannot render a view: it renders the turns user, assistant, user, assistant as "
            f"{text[:200]!r}. Set another template with `chat_template_path`."
        )
    ends = [start + len(marker) for start, marker in zip(starts, _MARKERS, strict=True)]
    user_end = render_chat(tokenizer, messages[:3], **template_kwargs).partition(_MARKERS[2])[2]
    assistant_end = text[ends[3] :]
    eos = tokenizer.eos_token or ""
    user_header = _without_turn_end(text[ends[1] : starts[2]], (assistant_end, user_end), eos)
    # A template may separate turns by a newline that the first turn does not have.
    user_header = _common_suffix(user_header, text[: starts[0]])
    assistant_header = _without_turn_end(text[ends[2] : starts[3]], (user_end,), eos)
    bos = tokenizer.bos_token or ""
    bos = bos if text.startswith(bos) else ""
    user_header, assistant_header = (bos + header.removeprefix(bos) for header in (user_header, assistant_header))
    return TurnHeaders(user_header, assistant_header)


def longest_sequence_tokens(row: dict[str, Any], num_predictor_tokens: int) -> int:
    """Length in tokens of a row's longest sequence; each view counts with its predictor tokens."""
    views = [len(row[name]) + num_predictor_tokens for name in ("source_ids", "target_ids") if name in row]
    return max([len(row["input_ids"]), *views])


def is_prefix(token_ids: list[int], of: list[int]) -> bool:
    """Whether `token_ids` are the first tokens of `of`."""
    return of[: len(token_ids)] == token_ids


def _without_turn_end(text: str, turn_ends: tuple[str, ...], eos: str) -> str:
    """The text after the end of a turn. A conversation ends as a turn does, or with EOS added to it (Phi-3)."""
    for end in (*turn_ends, *(end.removesuffix(eos) for end in turn_ends)):
        if end and text.startswith(end):
            return text.removeprefix(end)
    return text


def _common_suffix(one: str, other: str) -> str:
    while not other.endswith(one):
        one = one[1:]
    return one
