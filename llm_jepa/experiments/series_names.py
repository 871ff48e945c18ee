"""Names of the series of an experiment: an arm's own, or that of a baseline on a longer schedule.

No arm may be called as a longer baseline is, so a name tells which of both it is.
"""

import re

_LONGER = re.compile(r"(?P<arm>.+)-\d+-steps")


def series_name(arm: str, max_steps: int | None) -> str:
    """The name of a series. Example: `lm_only-103-steps`, or `lm_only` on the recipe's schedule, which is None."""
    return arm if max_steps is None else f"{arm}-{max_steps}-steps"


def arm_of(name: str) -> str:
    """The arm of the series of a name. Example: `lm_only` of `lm_only-103-steps`."""
    longer = _LONGER.fullmatch(name)
    return name if longer is None else longer["arm"]
