"""Scores that compare a generated text with the gold text, character by character."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


def is_strict_match(prediction: str, gold: str) -> bool:
    """Whether the prediction is the gold and nothing else.

    Both are stripped of surrounding whitespace (`str.strip`) before they are compared; whitespace inside
    counts, and so does case. An empty prediction or gold never matches, not even another empty one.
    """
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction == gold


def is_prefix_match(prediction: str, gold: str) -> bool:
    """Whether the prediction begins with the gold: right, but for what follows. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction.startswith(gold)


def is_contained(prediction: str, gold: str) -> bool:
    """Whether the gold stands anywhere in the prediction. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and gold in prediction


@dataclass(frozen=True)
class Rate:
    """How many of `count` rows are `hits`."""

    hits: int
    count: int

    @property
    def fraction(self) -> float:
        """hits / count, in [0, 1]."""
        return self.hits / self.count

    @property
    def standard_error(self) -> float:
        """sqrt(p (1 - p) / count): of `fraction` as the estimate of a proportion from independent rows."""
        return sqrt(self.fraction * (1 - self.fraction) / self.count)


@dataclass(frozen=True)
class ExactScores:
    """The five rates that are read side by side: a gain under `strict` alone is a gain in stopping.

    `strict`, `prefix` and `contains` are the matches above, each one implying the next. `stopped` counts the
    rows that ended with a stop token, `capped` those that ran into the limit of new tokens: all the others.
    """

    strict: Rate
    prefix: Rate
    contains: Rate
    stopped: Rate
    capped: Rate


def summarise(predictions: Sequence[str], golds: Sequence[str], stopped: Sequence[bool]) -> ExactScores:
    """Count the matches and the stops of many rows.

    Parameters:
        predictions: The generated texts, without stop token.
        golds: The text wanted of each row.
        stopped: Whether the generation of each row ended with a stop token.

    Raises:
        ValueError: There are no rows, or not as many of one as of another.
    """
    count = len(predictions)
    if not count == len(golds) == len(stopped):
        raise ValueError(
            f"{count} predictions, {len(golds)} golds, {len(stopped)} stop flags; give one of each for a row."
        )
    if count == 0:
        raise ValueError("No predictions were given, so there is nothing to score. Give at least one row.")
    pairs = list(zip(predictions, golds, strict=True))
    num_stopped = sum(map(bool, stopped))
    return ExactScores(
        strict=Rate(sum(is_strict_match(*pair) for pair in pairs), count),
        prefix=Rate(sum(is_prefix_match(*pair) for pair in pairs), count),
        contains=Rate(sum(is_contained(*pair) for pair in pairs), count),
        stopped=Rate(num_stopped, count),
        capped=Rate(count - num_stopped, count),
    )
