"""Measures ways to generate the same text side by side: seconds per answer, tokens per second and per forward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_jepa.inference.text_generation import GeneratedText, TextGenerator

BASELINE = "plain"


@dataclass(frozen=True)
class GenerationLatency:
    """What one way to generate took for a list of prompts.

    Attributes:
        texts: One for each prompt.
        plain: The same of plain decoding.
        acceptance: The share of accepted tokens at each position of a draft; none if nothing was drafted.
    """

    texts: Sequence[GeneratedText]
    plain: Sequence[GeneratedText]
    acceptance: Sequence[float] = ()

    @property
    def times_faster(self) -> float:
        """Seconds of plain decoding for all answers over those of this one."""
        return sum(one.seconds for one in self.plain) / sum(one.seconds for one in self.texts)

    @property
    def num_same(self) -> int:
        """How many texts are those of plain decoding, token by token."""
        return sum(one.ids == other.ids for one, other in zip(self.texts, self.plain, strict=True))

    def report(self) -> dict[str, Any]:
        """The figures as JSON takes them."""
        seconds, tokens = [one.seconds for one in self.texts], sum(len(one.ids) for one in self.texts)
        ratios = [other.seconds / one.seconds for one, other in zip(self.texts, self.plain, strict=True)]
        return {
            "answers": len(self.texts),
            "same_text": self.num_same,
            "tokens": tokens,
            "seconds_per_answer": _quartiles(seconds),
            "times_faster": self.times_faster,
            "times_faster_per_answer": _quartiles(ratios),
            "tokens_per_second": tokens / sum(seconds),
            "tokens_per_forward": tokens / sum(one.forwards for one in self.texts),
            "acceptance": list(self.acceptance),
        }


def measure_generation(
    generators: Mapping[str, TextGenerator],
    prompts: Sequence[list[int]],
    warm_up_prompts: int = 1,
    progress: Callable[[int], None] = lambda number: None,
) -> dict[str, GenerationLatency]:
    """Let each generator answer each prompt, one after another, in an order that rotates with the prompt.

    Args:
        generators: Name -> generator; `plain` among them.
        prompts: Token ids.
        warm_up_prompts: The first so many are answered once before, and not counted.
        progress: Called after each prompt, with 1.
    """
    names = list(generators)
    for ids in prompts[:warm_up_prompts]:
        for name in names:
            generators[name].generate(ids)
    texts: dict[str, list[GeneratedText]] = {name: [] for name in names}
    for number, ids in enumerate(prompts):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            texts[name].append(generators[name].generate(ids))
        progress(1)
    return {
        name: GenerationLatency(texts[name], texts[BASELINE], _acceptance(generator))
        for name, generator in generators.items()
    }


def _acceptance(generator: TextGenerator) -> Sequence[float]:
    return () if generator.drafter is None else generator.drafter.counts.acceptance


def _quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]
