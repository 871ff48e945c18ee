"""Locates the ends of a target's steps in a tokenised conversation.

A separator, a regular expression, ends a step. White space at the end of a step is not counted to it, and a step of
nothing else is none. Worked example, the target "a=2\\nb=3 " with the separator "\\n", from character 5 of the text
"Sum?\\na=2\\nb=3":

    token        Sum  ?  \\n  a  =2  \\n  b  =  3
    characters   0:3 3:4 4:5 5:6 6:8 8:9 9:10 10:11 11:12
    index        0    1   2   3   4   5   6   7   8

The first step, "a=2", ends before character 8, in token 4; the second before character 12, in token 8: [4, 8].
"""

import re
from typing import TYPE_CHECKING, Any

from llm_jepa.data.spans import Offsets, SourceTurn, SpanMaker, tokens_inside

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class StepMaker:
    """Finds the steps of targets in rows that TRL has tokenised.

    Args:
        tokenizer, remedy, source_turn: As for `SpanMaker`.
        separator: The regular expression that ends a step.

    Raises:
        ValueError: As `SpanMaker` does.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", separator: str, remedy: str, source_turn: SourceTurn = "last"
    ):
        self.separator = re.compile(separator)
        self.remedy = remedy
        self._spans = SpanMaker(tokenizer, remedy, source_turn)

    def __call__(self, row: dict[str, Any]) -> dict[str, list[int]]:
        """`step_ends` of a row with `prompt`, `completion`, `target` and `input_ids`."""
        return {"step_ends": step_ends(self.separator, *self._spans.find(row, "target"))}

    def of_text(self, text: str, input_ids: list[int]) -> dict[str, list[int]]:
        """`step_ends` of a plain text, all of which is split; an EOS at its end is part of no step."""
        offsets = self._spans.offsets(text, input_ids, is_chat=False)
        if offsets is None:
            raise ValueError(f"the text does not tokenise to the row's tokens. {self.remedy}")
        content = text.removesuffix(self._spans.tokenizer.eos_token or "").strip()
        return {"step_ends": step_ends(self.separator, content, text.index(content), offsets)}


def step_ends(separator: re.Pattern[str], content: str, start_char: int, offsets: Offsets) -> list[int]:
    """The token at which each step of a content ends, in order; steps that end in one token are one.

    Args:
        content: The text that is split, without white space at its ends.
        start_char: The character of the conversation at which it begins.
        offsets: The characters of each of the conversation's tokens.
    """
    bounds = [match.end() for match in separator.finditer(content)] + [len(content)]
    end_chars = {len(content[:bound].rstrip()) for bound in bounds} - {0}
    inside = [tokens_inside(offsets, start_char, start_char + end_char) for end_char in sorted(end_chars)]
    return list(dict.fromkeys(tokens[-1] for tokens in inside if tokens))
