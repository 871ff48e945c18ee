"""Answers requests in several ways by turns, so that what else a machine does slows all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Found = TypeVar("Found")
Name = TypeVar("Name", bound=Hashable)


def interleave(
    ways: Mapping[Name, Callable[[Request], Answer]],
    requests: Sequence[Request],
    warm_up_requests: int = 1,
    progress: Callable[[int], None] = lambda number: None,
) -> dict[Name, list[Answer]]:
    """Answer each request in every way, one after another, in an order that rotates with the request.

    With the ways a, b, c the calls are a b c for the first request, b c a for the second, c a b for the third.

    Args:
        warm_up_requests: The first so many are answered once before, and not counted.
        progress: Called after each request, with 1.
    """
    names = list(ways)
    for request in requests[:warm_up_requests]:
        for name in names:
            ways[name](request)
    answers: dict[Name, list[Answer]] = {name: [] for name in names}
    for number, request in enumerate(requests):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            answers[name].append(ways[name](request))
        progress(1)
    return answers


def timed(work: Callable[[], Found]) -> tuple[Found, float]:
    """What some work finds, and the seconds that it takes, until the device has done it."""
    _wait_for_device()
    start = time.perf_counter()
    found = work()
    _wait_for_device()
    return found, time.perf_counter() - start


def _wait_for_device() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def latency_figures(seconds: Sequence[float], plain_seconds: Sequence[float]) -> dict[str, Any]:
    """The seconds of one way as JSON takes them, beside those of plain decoding for the same requests."""
    ratios = [plain / own for own, plain in zip(seconds, plain_seconds, strict=True)]
    return seconds_figures(seconds) | {
        "times_faster": sum(plain_seconds) / sum(seconds),
        "times_faster_per_answer": _quartiles(ratios),
    }


def seconds_figures(seconds: Sequence[float]) -> dict[str, Any]:
    """The number of answers, the mean of their seconds and its quartiles, as JSON takes them."""
    return {
        "answers": len(seconds),
        "mean_seconds": float(np.mean(seconds)),
        "seconds_per_answer": _quartiles(seconds),
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))]
