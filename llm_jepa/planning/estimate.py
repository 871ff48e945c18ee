"""Hours, money and the break-even of a training, by arithmetic."""

from dataclasses import dataclass

SECONDS_PER_HOUR = 3600
UTILISATION = (0.5, 0.35, 0.2)
"""Share of a GPU's peak that fine-tuning reaches: for the low estimate of its time, the expected one, the high one."""

CALIBRATION_SPREAD = 0.15
"""How far a time that was calibrated may be off: the share by which the low and the high estimate differ."""


@dataclass(frozen=True)
class Estimate:
    """Low, expected and high."""

    low: float
    expected: float
    high: float

    def times(self, factor: float) -> "Estimate":
        """Each of them times a factor."""
        return Estimate(self.low * factor, self.expected * factor, self.high * factor)


def hours_at_peak(flops: float, peak_flops_per_second: float) -> Estimate:
    """Hours of one device that computes `flops` at the usual shares of its peak."""
    low, expected, high = (flops / (peak_flops_per_second * share) / SECONDS_PER_HOUR for share in UTILISATION)
    return Estimate(low, expected, high)


def hours_at_rate(flops: float, flops_per_second: float) -> Estimate:
    """Hours of one device that computes `flops` at a rate that was measured on it."""
    hours = flops / flops_per_second / SECONDS_PER_HOUR
    return Estimate(hours * (1 - CALIBRATION_SPREAD), hours, hours * (1 + CALIBRATION_SPREAD))


def break_even_requests(extra_cost: Estimate, request_seconds: float, price_per_hour: float, gain: float) -> Estimate:
    """After how many requests the better model has saved what its training cost more.

        N = extra_cost / (gain * request_cost),   request_cost = request_seconds / 3600 * price_per_hour

    Args:
        extra_cost: Of the training, over plain SFT; where it is below 0 there is nothing to repay.
        request_seconds: Time of one device that a request takes.
        gain: Share of the requests that the better model answers and the plain one would have had to be asked again.
    """
    saved = gain * request_seconds / SECONDS_PER_HOUR * price_per_hour
    low, expected, high = (max(0.0, cost) / saved for cost in (extra_cost.low, extra_cost.expected, extra_cost.high))
    return Estimate(low, expected, high)
