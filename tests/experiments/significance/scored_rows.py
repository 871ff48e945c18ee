"""Rows of arms and a baseline over five seeds, from which tests make verdicts."""

from collections.abc import Sequence

from llm_jepa.experiments.significance import Contrast

SEEDS = [82, 23, 37, 84, 4]
ARMS = ["alone", "prefix_sg", "info_nce", "tube"]
BASELINE = [0.53, 0.55, 0.52, 0.56, 0.54]
# By hand, minus the baseline, in points: 20, 15, 25, 12, 28.
ARM = [0.73, 0.70, 0.77, 0.68, 0.82]


def rows_of(scores: Sequence[float], n_rows: int = 100) -> dict[int, list[float | None]]:
    """Seed -> rows; the first ones are right, as many as the score says."""
    return {
        seed: [float(row < round(score * n_rows)) for row in range(n_rows)]
        for seed, score in zip(SEEDS, scores, strict=False)
    }


def contrast(arm: str = "prefix_sg", baseline: str = "lm_only", budget: str = "equal_steps") -> Contrast:
    return Contrast(arm, baseline, budget)
