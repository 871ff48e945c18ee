"""What becomes of a verdict without one seed, and by the sign-flip test."""

import numpy as np
import pytest
from scipy import stats

from llm_jepa.experiments.significance import robustness, sign_flip_p_value, verdicts
from llm_jepa.experiments.significance.robustness import Robustness
from tests.experiments.significance.scored_rows import ARM, ARMS, BASELINE, SEEDS, contrast, rows_of


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([1, 2], 2 / 4),  # sums 3, 1, -1, -3
        ([1, 2, 3], 2 / 8),  # 6 and -6
        ([3, 1, -2], 6 / 8),  # sums +-2 (as seen), +-6, +-4, and +-0
        ([0, 0, 1], 1.0),
        ([0.35, 0.01, 0.48, 0.41, 0.55, 0.40, 0.48, 0.28], 2 / 256),  # all of one sign
    ],
)
def test_sign_flips_by_hand(differences, p_value):
    assert sign_flip_p_value(differences) == p_value
    assert sign_flip_p_value([-value for value in differences]) == p_value


def test_sign_flips_against_scipy_and_a_sample_beyond_sixteen_seeds():
    draw = np.random.default_rng(3)
    for n_seeds in (10, 18):
        values = draw.normal(0.4, 1, n_seeds)
        expected = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=2**n_seeds, alternative="two-sided"
        ).pvalue
        assert sign_flip_p_value(values.tolist()) == pytest.approx(expected, abs=0 if n_seeds == 10 else 0.005)


def test_without_a_seed_the_whole_family_is_judged_anew():
    """Of four arms one is better, and another, whose one seed is far above the rest, is not."""
    rows = {"lm_only": rows_of(BASELINE)} | {arm: rows_of(BASELINE) for arm in ARMS}
    rows |= {"prefix_sg": rows_of(ARM), "tube": rows_of([0.9, *BASELINE[1:]])}
    contrasts = [contrast(arm) for arm in ARMS]
    found = verdicts(contrasts, rows, SEEDS)
    how = dict(zip(ARMS, robustness(found, contrasts, rows, SEEDS), strict=True))
    assert [arm for arm in ARMS if how[arm] is not None] == ["prefix_sg"]
    better = how["prefix_sg"]
    assert better is not None
    for seed in SEEDS:
        others = [other for other in SEEDS if other != seed]
        expected = verdicts(contrasts, rows, others)[ARMS.index("prefix_sg")]
        assert better.p_without_seed[seed] == expected.adjusted_p_value
    assert better.mean_without_seed[82] == pytest.approx(0.20)  # 15, 25, 12, 28
    assert better.mean_without_seed[4] == pytest.approx(0.18)  # 20, 15, 25, 12
    assert better.sign_flip_p_value == 2 / 2**5
    assert better.corrected_sign_flip == 4 * 2 / 2**5


@pytest.mark.parametrize(
    ("p_values", "said"),
    [
        ([0.001, 0.0001, 0.02], "Without any one seed p is < 0.001 to 0.020. The"),
        ([0.0001, 0.0002, 0.0009], "Without any one seed p is < 0.001. The"),
        ([0.001, 0.06, 0.02], "to 0.060, below 0.05 except without 2. The"),
        ([0.06, 0.052, 0.0012], "p is 0.001 to 0.060, below 0.05 only without 3. The"),
        ([0.06, 0.052, 0.05], "never below 0.05. The"),
    ],
)
def test_the_sentence_says_which_seeds_the_verdict_needs(p_values, said):
    how = Robustness(dict(zip((1, 2, 3), p_values, strict=True)), {}, 2 / 2**3, 3)
    assert said in how.sentence
    assert how.sentence.endswith(
        "The sign-flip test over 3 seeds has p = 0.250, 0.750 after correction, the least that so many seeds can have."
    )
    assert "least" not in Robustness(how.p_without_seed, {}, 4 / 2**3, 3).sentence
