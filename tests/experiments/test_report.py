"""What the report calls its comparisons."""

import pytest

from llm_jepa.experiments.report import budget_title


@pytest.mark.parametrize(
    ("equal_flops", "budget", "title"),
    [
        ("each_arm", "equal_flops", "At equal FLOPs"),
        ("costliest_arm", "equal_flops", "At the costliest arm's FLOPs"),
        ("costliest_arm", "equal_steps", "At equal steps"),
    ],
)
def test_more_flops_than_an_arm_had_are_not_called_equal(equal_flops, budget, title):
    assert budget_title({"experiment": {"equal_flops": equal_flops}}, budget) == title
