"""Golds that no prediction can be scored by: the fault of the data, not of the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GoldProblem:
    """Why a gold cannot be scored by.

    Attributes:
        reason: The kind of problem, the same words for every such gold; reports count by it.
        detail: What is wrong with this gold, and the remedy.
    """

    reason: str
    detail: str


class GoldError(ValueError):
    """A gold that cannot be scored by, whatever the prediction."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.problem = GoldProblem(reason, detail)
