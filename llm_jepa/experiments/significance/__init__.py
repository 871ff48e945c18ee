"""Compares arms with a baseline over paired seeds: differences, intervals, one Holm family, verdicts, power.

A score is a share of test rows (0 to 1); sentences give points (hundredths). Pure functions that import nothing of the
package.
"""

from llm_jepa.experiments.significance.holm import holm
from llm_jepa.experiments.significance.paired import Interval, PairedDifference, paired_difference
from llm_jepa.experiments.significance.robustness import Robustness, robustness, sign_flip_p_value
from llm_jepa.experiments.significance.summary import Summary, effective_rows, summarise
from llm_jepa.experiments.significance.threshold import (
    Reach,
    ReachedShares,
    ReachTimes,
    first_reach,
    reach_times,
    reached_shares,
    time_in_words,
)
from llm_jepa.experiments.significance.verdicts import (
    MIN_SEEDS,
    SIGNIFICANCE,
    Contrast,
    Outcome,
    Verdict,
    descriptions,
    verdicts,
)
from llm_jepa.experiments.significance.words import p_equation, p_in_words, p_range

__all__ = [
    "MIN_SEEDS",
    "SIGNIFICANCE",
    "Contrast",
    "Interval",
    "Outcome",
    "PairedDifference",
    "Reach",
    "ReachTimes",
    "ReachedShares",
    "Robustness",
    "Summary",
    "Verdict",
    "descriptions",
    "effective_rows",
    "first_reach",
    "holm",
    "p_equation",
    "p_in_words",
    "p_range",
    "paired_difference",
    "reach_times",
    "reached_shares",
    "robustness",
    "sign_flip_p_value",
    "summarise",
    "time_in_words",
    "verdicts",
]
