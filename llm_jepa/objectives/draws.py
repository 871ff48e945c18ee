"""Random draws as a function of seed, step and row: no state to save, the same on every rank and after a resume.

Legend: N rows, C draws of a row, S directions, D their width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# These stand in for a row index, which is 0 or more.
_DROPOUT_STREAM = -1
_FIRST_DIRECTION_STREAM = -2  # the next direction has -3, and so on
_BITS = 53  # a float64 holds so many bits exactly


def is_dropped(seed: int, step: int, probability: float) -> bool:
    """Whether an optimizer step drops the JEPA term, with `probability`. Depends only on seed and step (from 0)."""
    return probability > 0 and uniform_draws(seed, step, torch.tensor([_DROPOUT_STREAM]), 1).item() < probability


def unit_directions(seed: int, step: int, num_directions: int, width: int, device: torch.device) -> Tensor:
    """Random unit vectors, uniform on the sphere, float64: direction_SD. They depend only on seed, step and width."""
    stream_S = _FIRST_DIRECTION_STREAM - torch.arange(num_directions, device=device)
    draw_SD = uniform_draws(seed, step, stream_S, width)
    half_a_step = 0.5 / 2**_BITS  # a draw can be 0, whose quantile is infinite
    return F.normalize(torch.special.ndtri(draw_SD + half_a_step), dim=1)


def uniform_draws(seed: int, step: int, row_index_N: Tensor, num_draws: int) -> Tensor:
    """Independent uniform numbers in [0, 1), float64: draw_NC.

    A counter-based generator mixes seed, step, row and draw in turn by SplitMix64's finaliser (Steele, Lea and Flood
    2014). It mixes seed and step on the host, and the rest in integer arithmetic on the rows' device, so that nothing
    waits for the device and every device gives the same numbers.
    """
    draw_C = torch.arange(num_draws, device=row_index_N.device)
    state = _mixed(_mixed(torch.tensor(seed)) + step)
    state_N = _mixed(state + row_index_N)
    state_NC = _mixed(state_N[:, None] + draw_C)
    return _shifted_right(state_NC, 64 - _BITS).double() / 2**_BITS


def _mixed(value: Tensor) -> Tensor:
    """SplitMix64 of int64 numbers, which overflow as unsigned ones do."""
    value = value + _signed(0x9E3779B97F4A7C15)
    value = (value ^ _shifted_right(value, 30)) * _signed(0xBF58476D1CE4E5B9)
    value = (value ^ _shifted_right(value, 27)) * _signed(0x94D049BB133111EB)
    return value ^ _shifted_right(value, 31)


def _shifted_right(value: Tensor, bits: int) -> Tensor:
    """A logical right shift; `>>` of int64 copies the sign bit."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64)
