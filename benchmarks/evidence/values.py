"""Fills the figures of a text from the committed results, so that every figure has its source.

`{FILE:a/b/c:FORMAT}` becomes the value at the keys a, b, c of `results/FILE`. A FILE that is a directory is an
experiment, whose report is computed from its cells, with the means along the training, `curve_means`. FORMAT is
Python's, or of a share: `percent` (54.3), `points` (+1.2, a difference in hundredths), `size` (1.2, the same without
its sign); of a p value `p` (p = 0.018, p < 0.001). `a/b ÷ a/c` is a ratio of two values.

Examples: `{latency.json:ways/draft 4/times_faster:.2f}` becomes `2.39`, and
`{latency.json:ways/plain/mean_seconds ÷ ways/draft 4/mean_seconds:.2f}` too.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from evidence.cells import committed_report, read_json
from evidence.experiment import curve_means
from llm_jepa.experiments.significance import p_equation

PLACEHOLDER = re.compile(r"\{([^{}:]+):([^{}:]+):([^{}]+)\}")
RATIO = " ÷ "
OF_SHARES: dict[str, Callable[[float], str]] = {
    "percent": "{:.1f}".format,
    "points": "{:+.1f}".format,
    "size": lambda points: f"{abs(points):.1f}",
}


class Values:
    """The values of the results in a directory."""

    def __init__(self, results: Path):
        self.results = results
        self.content = cache(self._content)

    def at(self, name: str, path: str) -> Any:
        """The value at a path of keys, or the ratio of the values at two.

        Raises:
            ValueError: There is no such file, or no such key in it.
        """
        if RATIO in path:
            dividend, divisor = path.split(RATIO)
            return self.at(name, dividend) / self.at(name, divisor)
        value = self.content(name)
        for key in path.split("/"):
            found = value[int(key)] if isinstance(value, list | tuple) else value.get(key, value.get(_number(key)))
            if found is None:
                there = ", ".join(map(str, value))
                raise ValueError(f"{self.results / name} has no `{path}`: where `{key}` was sought there are {there}.")
            value = found
        return value

    def fill(self, text: str) -> str:
        """A text with every placeholder replaced by its value."""
        return PLACEHOLDER.sub(lambda match: _formatted(self.at(match[1], match[2]), match[3]), text)

    def _content(self, name: str) -> Any:
        path = self.results / name
        if not path.exists():
            raise ValueError(f"There is no {path}.")
        if not path.is_dir():
            return read_json(path)
        report = committed_report(path)
        return report | {"curve_means": curve_means(report)}


def _number(key: str) -> int | None:
    return int(key) if key.isdigit() else None


def _formatted(value: Any, how: str) -> str:
    if how == "p":
        return p_equation(value)
    if how in OF_SHARES:
        return OF_SHARES[how](100 * value)
    return format(value, how).replace("%", " %")
