"""Sums over any number of micro-batches, in the memory of one number."""

from collections.abc import Iterator

import torch
from torch import Tensor


class RunningSum:
    """Takes the place of a list of numbers of which only `sum(values) / len(values)` is asked, as TRL's logs do."""

    def __init__(self, total: float = 0.0, count: int = 0):
        self.total = total
        self.count = count

    def append(self, value: float) -> None:
        """Add a number."""
        self.total += value
        self.count += 1

    def __iter__(self) -> Iterator[float]:
        yield self.total

    def __len__(self) -> int:
        return self.count


def widened(value: Tensor) -> Tensor:
    """A value in float64, so that a sum of millions of them is exact to float32; in float32 on MPS, which has no more.

    The value stays on its device: nothing waits for it.
    """
    return value.to(torch.float32 if value.device.type == "mps" else torch.float64)
