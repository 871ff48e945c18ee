"""Measures ways to generate the same text side by side: seconds per answer, tokens per second and per forward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_jepa.evaluation.interleaving import interleave, latency_figures
from llm_jepa.inference.draft_counts import DraftCounts
from llm_jepa.inference.text_generation import GeneratedText, TextGenerator

BASELINE = "plain"


@dataclass(frozen=True)
class GenerationLatency:
    """What one way to generate took for a list of prompts.

    Attributes:
        texts: One for each prompt.
        plain: The same of plain decoding.
    """

    texts: Sequence[GeneratedText]
    plain: Sequence[GeneratedText]

    @property
    def acceptance(self) -> list[float]:
        """The share of accepted tokens at each position of a draft; none if nothing was drafted."""
        return DraftCounts.total([one.drafts for one in self.texts]).acceptance

    @property
    def num_same(self) -> int:
        """How many texts are those of plain decoding, token by token."""
        return sum(one.ids == other.ids for one, other in zip(self.texts, self.plain, strict=True))

    def report(self) -> dict[str, Any]:
        """The figures as JSON takes them."""
        seconds, tokens = [one.seconds for one in self.texts], sum(len(one.ids) for one in self.texts)
        return latency_figures(seconds, [one.seconds for one in self.plain]) | {
            "same_text": self.num_same,
            "tokens": tokens,
            "tokens_per_second": tokens / sum(seconds),
            "tokens_per_forward": tokens / sum(one.forwards for one in self.texts),
            "acceptance": self.acceptance,
        }


def measure_generation(
    generators: Mapping[str, TextGenerator],
    prompts: Sequence[list[int]],
    progress: Callable[[int], None] = lambda number: None,
) -> dict[str, GenerationLatency]:
    """Let each generator answer each prompt by turns.

    Args:
        generators: Name -> generator; `plain` among them.
        prompts: Token ids.
        progress: Called after each prompt, with 1.
    """
    ways = {name: generator.generate for name, generator in generators.items()}
    texts = interleave(ways, prompts, progress=progress)
    return {name: GenerationLatency(of_way, texts[BASELINE]) for name, of_way in texts.items()}
