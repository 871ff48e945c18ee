"""Names of the series of an experiment: an arm's own, or that of a baseline on a longer schedule."""

import re
from collections.abc import Container

_LONGER = re.compile(r"(?P<arm>.+)-\d+-steps")


def series_name(arm: str, max_steps: int | None) -> str:
    """The name of a series. Example: `lm_only-103-steps`, or `lm_only` on the recipe's schedule, which is None."""
    return arm if max_steps is None else f"{arm}-{max_steps}-steps"


def arm_of(name: str, arms: Container[str]) -> str:
    """The arm of the series of a name."""
    longer = _LONGER.fullmatch(name)
    return name if name in arms or longer is None else longer["arm"]
