"""The Wilson interval of a share."""

from math import sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf((1 + 0.95) / 2)


def wilson_interval(hits: float, count: float) -> tuple[float, float]:
    """Lower and upper bound, with 95 % confidence, of the share that `hits` out of `count` independent rows estimate.

    Hits may be a fraction, such as the mean over several runs on the same rows; so may the count, an effective number.

    With p = hits / count and z the normal quantile of 0.975, the bounds are

        (p + z^2 / (2 count) -+ z sqrt(p (1 - p) / count + z^2 / (4 count^2))) / (1 + z^2 / count).

    0 of 100 gives 0 to 3.7 %, where `p +- z sqrt(p (1 - p) / count)` would claim certainty. Wilson 1927, Journal of
    the American Statistical Association 22; recommended by Brown, Cai and DasGupta 2001, Statistical Science 16(2).

    Raises:
        ValueError: There are no rows, or not 0 <= hits <= count.
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"Give hits from 0 to count, and a count of 1 or more; given: {hits} of {count}.")
    share, z = hits / count, Z
    middle = share + z**2 / (2 * count)
    half_width = z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    # Rounding must not move a bound past the share.
    return min(share, max(0.0, (middle - half_width) / scale)), max(share, min(1.0, (middle + half_width) / scale))
