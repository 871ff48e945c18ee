"""How many tokens to draft for the next forward: a fixed number, or the one that pays best as measured."""

from abc import ABC, abstractmethod
from collections import deque
from statistics import median_low

MAX_DRAFTED_TOKENS = 6
"""The most that an adaptive length drafts."""
TRIALS = 2
"""How often each length is tried at the start."""
RECENT_FORWARDS = 5
"""The seconds of a length are the median of its last forwards, of two the lower: a first one may be slow."""
FORWARDS_BETWEEN_TRIALS = 32
"""After as many, another length than the best is tried."""
MEMORY = 0.98
"""Weight that the counts of acceptance keep at each verification."""


class DraftLength(ABC):
    """Chooses how many tokens to draft."""

    @abstractmethod
    def choose(self) -> int:
        """The number for the next forward."""

    @abstractmethod
    def observe(self, num_drafted: int, num_verified: int, num_accepted: int, seconds: float) -> None:
        """Learn from a forward.

        Args:
            num_verified: Drafted tokens that were compared with the model's own.
            num_accepted: The first so many were accepted.
            seconds: Of drafting and of the forward.
        """


class FixedLength(DraftLength):
    """Always the same number."""

    def __init__(self, num_drafted: int):
        self.num_drafted = num_drafted

    def choose(self) -> int:
        """The number."""
        return self.num_drafted

    def observe(self, num_drafted: int, num_verified: int, num_accepted: int, seconds: float) -> None:
        """Nothing is learnt."""


class AdaptiveLength(DraftLength):
    """The number K with the most expected tokens per second, 0 included, which is plain decoding.

        tokens(K) = 1 + a_1 + a_1 a_2 + ... + a_1 ... a_K

    a_i is the share accepted at position i, and seconds(K) the median of recent forwards. Each length is tried at
    the start, and one other than the best from time to time.
    """

    def __init__(self, max_drafted: int = MAX_DRAFTED_TOKENS):
        self._verified_K, self._accepted_K = [1.0] * max_drafted, [0.5] * max_drafted
        self._seconds: list[deque[float]] = [deque(maxlen=RECENT_FORWARDS) for _ in range(max_drafted + 1)]
        self._num_forwards = 0

    def choose(self) -> int:
        """The best, or one to try."""
        untried = [length for length, seconds in enumerate(self._seconds) if len(seconds) < TRIALS]
        if untried:
            return untried[-1]
        best = max(range(len(self._seconds)), key=self._tokens_per_second)
        self._num_forwards += 1
        round_number, is_later = divmod(self._num_forwards, FORWARDS_BETWEEN_TRIALS)
        if is_later:
            return best
        others = [length for length in range(len(self._seconds)) if length != best]
        return others[round_number % len(others)]

    def observe(self, num_drafted: int, num_verified: int, num_accepted: int, seconds: float) -> None:
        """Update the acceptance at each position and the seconds of this length."""
        self._seconds[num_drafted].append(seconds)
        for position in range(num_verified):
            self._verified_K[position] = MEMORY * self._verified_K[position] + 1
            is_accepted = position < num_accepted
            self._accepted_K[position] = MEMORY * self._accepted_K[position] + is_accepted

    def _tokens_per_second(self, length: int) -> float:
        tokens = reached = 1.0
        for accepted, verified in zip(self._accepted_K[:length], self._verified_K[:length], strict=True):
            reached *= accepted / verified
            tokens += reached
        return tokens / median_low(self._seconds[length])
