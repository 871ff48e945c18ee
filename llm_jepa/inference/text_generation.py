"""Generates one text at a time: plainly, with drafted tokens, or with tokens looked up in the prompt.

All three give the greedy text of the model, as `eval` does: the penalties of its own generation config have no part in
it. Under float32 it is the same text. Under bf16 a forward of several tokens rounds its sums otherwise than a forward
of one, so that two tokens of almost equal logits can change places.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from llm_jepa.data.prompts import prompt_ids
from llm_jepa.data.spans import template_kwargs_of
from llm_jepa.data.text_rows import text_row_maker
from llm_jepa.inference.draft_counts import DraftCounts
from llm_jepa.inference.draft_length import DraftLength
from llm_jepa.inference.drafting import DRAFT_VOCABULARY, Drafter, check_croppable
from llm_jepa.models.adapters import without_adapter
from llm_jepa.models.greedy import greedy_generation
from llm_jepa.models.loading import position_limit
from llm_jepa.models.run_mapping import renders_plain_prompts
from llm_jepa.models.stop_tokens import stop_token_ids
from llm_jepa.recipe import Recipe

GenerationMethod = Literal["draft", "plain", "prompt_lookup"]
GENERATION_METHODS: tuple[GenerationMethod, ...] = get_args(GenerationMethod)
LOOKED_UP_TOKENS = 10
"""Tokens that prompt lookup proposes at most; the number of transformers' documentation."""


@dataclass(frozen=True)
class GeneratedText:
    """A text and what it took.

    Attributes:
        text: Without special tokens.
        ids: The new tokens, the stop token included.
        seconds: From the prompt to the last token.
        forwards: Of the model.
        drafts: Counts of what a drafter drafted; empty without one.
    """

    text: str
    ids: tuple[int, ...]
    seconds: float
    forwards: int
    drafts: DraftCounts = field(default_factory=DraftCounts)

    @property
    def tokens_per_second(self) -> float:
        """New tokens over the seconds."""
        return len(self.ids) / self.seconds

    @property
    def tokens_per_forward(self) -> float:
        """New tokens over the forwards, that of the prompt included."""
        return len(self.ids) / self.forwards


class TextGenerator:
    """Greedy generation, prompt by prompt.

    Args:
        model: With its adapter if it has one. It is set to evaluation.
        tokenizer: That of the run.
        method: How tokens are proposed.
        drafter: For `draft`.
        max_new_tokens: Limit of a text, the stop token included.

    Raises:
        ValueError: The method is `prompt_lookup`, and the model's cache cannot be cropped.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        method: GenerationMethod,
        max_new_tokens: int,
        drafter: Drafter | None = None,
    ):
        inner = without_adapter(model)
        assert (drafter is not None) == (method == "draft")
        if method == "prompt_lookup":
            check_croppable(inner)
        self.model, self.inner, self.tokenizer, self.drafter = model.eval(), inner, tokenizer, drafter
        self.stop_ids = stop_token_ids(inner.generation_config or GenerationConfig(), tokenizer)
        self.max_new_tokens = max_new_tokens
        looked_up = LOOKED_UP_TOKENS if method == "prompt_lookup" else None
        self._limits = tokenizer.pad_token_id, max_new_tokens, looked_up
        self.counts = DraftCounts()
        """Forwards and tokens of all texts; the acceptance of drafts is in the drafter's."""

    @classmethod
    def of_run(
        cls,
        directory: Path,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        method: GenerationMethod,
        max_new_tokens: int,
        draft_vocabulary: int | None = None,
        length: DraftLength | None = None,
    ) -> "TextGenerator":
        """The generator of a run's model, for `draft` with the drafter of the run.

        Args:
            draft_vocabulary: How many of the most frequent tokens are drafted; `DRAFT_VOCABULARY` if None.
            length: How many tokens to draft; adaptive if None.

        Raises:
            ValueError: As by `Drafter.from_predictor`, or the method looks up tokens and the cache cannot be cropped.
        """
        drafter = None
        if method == "draft":
            vocabulary = draft_vocabulary or DRAFT_VOCABULARY
            drafter = Drafter.from_predictor(directory, model, tokenizer, vocabulary, length)
        return cls(model, tokenizer, method, max_new_tokens, drafter)

    def generate(self, ids: list[int], streamer: BaseStreamer | None = None) -> GeneratedText:
        """Continue the tokens of a prompt.

        Raises:
            ValueError: The prompt is empty, or leaves no room for `max_new_tokens`.
        """
        limit = position_limit(self.inner.config)
        if not ids:
            raise ValueError("The prompt has no tokens. Give a text.")
        if limit is not None and len(ids) + self.max_new_tokens > limit:
            raise ValueError(
                f"The prompt has {len(ids)} tokens; with {self.max_new_tokens} new ones it exceeds the {limit} "
                "positions of the model. Shorten it, or lower `--max_new_tokens`."
            )
        forwards = 0

        def count(*_: Any) -> None:
            nonlocal forwards
            forwards += 1

        ids_1S = torch.tensor([ids], device=self.inner.device)
        hook = self.inner.register_forward_hook(count)
        start = time.perf_counter()
        try:
            with greedy_generation(self.inner, self.stop_ids, *self._limits):
                output_1S = self._generate(ids_1S, streamer)
        finally:
            hook.remove()
        new_ids = output_1S[0, len(ids) :].tolist()
        seconds = time.perf_counter() - start
        self.counts.forwards += forwards
        self.counts.tokens += len(new_ids)
        drafts = DraftCounts() if self.drafter is None else self.drafter.candidates.text_counts
        return GeneratedText(self._text(new_ids), tuple(new_ids), seconds, forwards, drafts)

    def _generate(self, ids_1S: Tensor, streamer: BaseStreamer | None) -> Tensor:
        if self.drafter is not None:
            return self.drafter.generate(ids_1S, streamer=streamer)
        return cast(Any, self.model).generate(input_ids=ids_1S, streamer=streamer)

    def _text(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text


def prompt_tokeniser(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """The function from a text to the tokens of its prompt, as the run's training renders a source.

    That is with the chat template, the system prompt and the template's arguments; a run whose rows were plain strings
    has none of the template. The function raises ValueError if the text is empty.

    Raises:
        ValueError: A file of the run's record cannot be read.
    """
    is_plain = renders_plain_prompts(recipe.output_dir)
    to_row = text_row_maker(recipe.training, tokenizer.chat_template is not None, is_plain)

    def tokenise(text: str) -> list[int]:
        row = to_row(text, "x")
        return prompt_ids(tokenizer, row["prompt"], template_kwargs_of(row))

    return tokenise
