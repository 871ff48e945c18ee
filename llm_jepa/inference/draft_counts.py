"""Counts of drafted decoding: forwards, tokens, and which drafted tokens were accepted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any


@dataclass
class DraftCounts:
    """What was generated so far.

    Attributes:
        forwards: Of the model, that of the prompt included.
        tokens: Generated.
        verified_K, accepted_K: For each position of a draft: how often it was compared with the model's own token
            while all before it were accepted, and how often it was accepted.
    """

    forwards: int = 0
    tokens: int = 0
    verified_K: list[int] = field(default_factory=list)
    accepted_K: list[int] = field(default_factory=list)

    def add(self, drafted: list[int], tokens: list[int]) -> tuple[int, int]:
        """Count one forward: what was drafted for it, and the tokens that it gave.

        Returns:
            How many drafted tokens were verified, and how many of these accepted.

        Example: drafted 5 6 7, tokens 5 9: two positions are verified, the first is accepted. Drafted 5 6 7, tokens
        5 6, the second of which ended the text: two are verified and accepted.
        """
        self.forwards += 1
        self.tokens += len(tokens)
        verified = accepted = 0
        for position, (guess, token) in enumerate(zip(drafted, tokens, strict=False)):
            if position == len(self.verified_K):
                self.verified_K.append(0)
                self.accepted_K.append(0)
            self.verified_K[position] += 1
            verified += 1
            if guess != token:
                break
            self.accepted_K[position] += 1
            accepted += 1
        return verified, accepted

    @classmethod
    def total(cls, parts: Sequence["DraftCounts"]) -> "DraftCounts":
        """The sums of several counts."""
        return cls(
            sum(one.forwards for one in parts),
            sum(one.tokens for one in parts),
            [sum(column) for column in zip_longest(*(one.verified_K for one in parts), fillvalue=0)],
            [sum(column) for column in zip_longest(*(one.accepted_K for one in parts), fillvalue=0)],
        )

    @property
    def tokens_per_forward(self) -> float | None:
        """Mean tokens that a forward gave; None before the first."""
        return self.tokens / self.forwards if self.forwards else None

    @property
    def acceptance(self) -> list[float]:
        """The share accepted of the verified tokens at each position."""
        return [accepted / verified for accepted, verified in zip(self.accepted_K, self.verified_K, strict=True)]

    def report(self) -> dict[str, Any]:
        """The counts and the rates as JSON takes them."""
        return {
            "forwards": self.forwards,
            "tokens": self.tokens,
            "tokens_per_forward": self.tokens_per_forward,
            "verified": self.verified_K,
            "accepted": self.accepted_K,
            "acceptance": self.acceptance,
        }
