"""Calculates hours, cost and break-even of a training."""

from dataclasses import dataclass

SECONDS_PER_HOUR = 3600
UTILISATION = (0.5, 0.35, 0.2)
"""Share of a GPU's peak that fine-tuning reaches, for the low, expected and high estimate of its time."""

CALIBRATION_SPREAD = 0.15
"""Relative error of a calibrated time, for the low and the high estimate."""


@dataclass(frozen=True)
class Estimate:
    """A low, expected and high value."""

    low: float
    expected: float
    high: float

    def times(self, factor: float) -> "Estimate":
        """The estimate multiplied by a factor."""
        return Estimate(self.low * factor, self.expected * factor, self.high * factor)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference, value by value: both are low, or high, for the same reason."""
        return Estimate(self.low - other.low, self.expected - other.expected, self.high - other.high)


def hours_at_peak(flops: float, peak_flops_per_second: float) -> Estimate:
    """Hours of one device for `flops`, at the usual shares of its peak."""
    low, expected, high = (flops / (peak_flops_per_second * share) / SECONDS_PER_HOUR for share in UTILISATION)
    return Estimate(low, expected, high)


def hours_at_rate(flops: float, flops_per_second: float) -> Estimate:
    """Hours of one device for `flops`, at a measured rate."""
    hours = flops / flops_per_second / SECONDS_PER_HOUR
    return Estimate(hours * (1 - CALIBRATION_SPREAD), hours, hours * (1 + CALIBRATION_SPREAD))


def break_even_requests(extra_cost: Estimate, request_seconds: float, price_per_hour: float, gain: float) -> Estimate:
    """Number of requests after which the better model has saved the extra cost of its training.

        N = extra_cost / (gain * request_cost),   request_cost = request_seconds / 3600 * price_per_hour

    Args:
        extra_cost: Cost of the training over plain SFT; below 0 there is nothing to repay.
        request_seconds: Device time of a request.
        gain: Share of requests that only the better model answers; the plain model must be asked again.
    """
    found = requests_to_repay(extra_cost, gain * request_seconds / SECONDS_PER_HOUR * price_per_hour)
    assert found is not None, "gain, seconds and price are above 0"
    return found


def requests_to_repay(extra: Estimate, saved_per_request: float) -> Estimate | None:
    """Number of requests after which what each saves has repaid an extra cost, both in the same unit.

        N = max(0, extra) / saved_per_request

    None if a request saves nothing and there is something to repay: never.
    """
    costs = [max(0.0, cost) for cost in (extra.low, extra.expected, extra.high)]
    if not any(costs):
        return Estimate(0.0, 0.0, 0.0)
    if saved_per_request <= 0:
        return None
    low, expected, high = (cost / saved_per_request for cost in costs)
    return Estimate(low, expected, high)
