"""Multiple choice by likelihood: the choice to which the model gives the highest log-probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal, get_args

from llm_jepa.scoring.gold import GoldError

Normalisation = Literal["none", "tokens", "characters", "bytes"]


@dataclass(frozen=True)
class ChoiceLikelihoods:
    """The likelihoods of the choices of one row.

    Attributes:
        choices: Their texts.
        log_probs: Log-probability of each choice after the prompt, summed over its tokens (nats).
        num_tokens: Number of tokens in each sum.
    """

    choices: list[str]
    log_probs: list[float]
    num_tokens: list[int]


def is_chosen(gold: str, likelihoods: ChoiceLikelihoods, normalisation: Normalisation) -> bool:
    """Whether the model prefers the gold; parameters and errors as in `choose`.

    Raises:
        GoldError: The gold is not one of the choices.
    """
    check_choices(gold, likelihoods.choices)
    chosen = choose(likelihoods.log_probs, likelihoods.choices, likelihoods.num_tokens, normalisation)
    return likelihoods.choices[chosen] == gold


def check_choices(gold: str, choices: Sequence[str]) -> None:
    """Raise GoldError if there are no choices, or the gold is not one of them."""
    if not choices:
        raise GoldError("the row has no choices", "the row has no choices.")
    if gold not in choices:
        raise GoldError(
            "the gold is not one of the choices", f"the gold {gold!r} is not one of the choices {choices}."
        )


def choose(
    log_prob_C: Sequence[float], choices: Sequence[str], num_tokens_C: Sequence[int], normalisation: Normalisation
) -> int:
    """The index of the choice with the highest score; the first of equal ones.

        score = log_prob / length

    Parameters:
        log_prob_C: Log-probability of each of the C choices given the prompt, summed over its tokens (nats).
        choices: Their texts, without the separator from the prompt (lm-eval's `target_delimiter`).
        num_tokens_C: Number of tokens in each log-probability.
        normalisation: What the length counts: "none" (length 1; lm-eval's `acc`), "characters" (of the text;
            lm-eval's `acc_norm`), "bytes" (of its UTF-8; the same for ASCII) or "tokens".

    Raises:
        ValueError: There are no choices, the arguments differ in length, a log-probability is NaN or above zero, a
            length is zero, or the normalisation is unknown.
    """
    if not len(log_prob_C) == len(choices) == len(num_tokens_C):
        raise ValueError(
            f"{len(log_prob_C)} log-probabilities, {len(choices)} choices, {len(num_tokens_C)} token counts; "
            "give one of each per choice."
        )
    if not choices:
        raise ValueError("There are no choices. Give at least one.")
    for text, log_prob in zip(choices, log_prob_C, strict=True):
        if isnan(log_prob) or log_prob > 0:
            raise ValueError(f"Choice {text!r} has the log-probability {log_prob}; it must be zero or below.")
    score_C = [
        log_prob / _length(text, num_tokens, normalisation)
        for log_prob, text, num_tokens in zip(log_prob_C, choices, num_tokens_C, strict=True)
    ]
    return score_C.index(max(score_C))


def _length(text: str, num_tokens: int, normalisation: Normalisation) -> int:
    lengths: dict[str, int] = {
        "none": 1,
        "tokens": num_tokens,
        "characters": len(text),
        "bytes": len(text.encode()),
    }
    if normalisation not in lengths:
        raise ValueError(f"Normalisation {normalisation!r}; allowed are {', '.join(get_args(Normalisation))}.")
    length = lengths[normalisation]
    if length <= 0:
        raise ValueError(f"Choice {text!r} has a length of {length} {normalisation}; it must be at least 1.")
    return length
