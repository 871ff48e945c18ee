"""Draws are functions of seed, step and row: uniform, independent, and the same wherever they are made."""

import torch
from scipy import stats

from llm_jepa.objectives.draws import is_dropped, uniform_draws, unit_directions

MASK = (1 << 64) - 1


def mixed(value: int) -> int:
    """SplitMix64 in Python's unbounded integers."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def test_splitmix64_gives_its_published_first_number():
    """Of the generator seeded with 0; the oracle below is held to it."""
    assert mixed(0) == 0xE220A8397B1DCDAF


def test_wrapping_int64_arithmetic_equals_unbounded_integers():
    draw_NC = uniform_draws(82, 1000, torch.tensor([0, 7, 2**40]), 3)
    state = mixed((mixed(82) + 1000) & MASK)
    for i, row in enumerate((0, 7, 2**40)):
        for j in range(3):
            expected = mixed((mixed((state + row) & MASK) + j) & MASK) >> 11
            assert draw_NC[i, j].item() == expected / 2**53


def test_draws_are_uniform_and_independent_over_steps_rows_and_numbers():
    """Kolmogorov-Smirnov for uniformity; correlation with the neighbour in each of the three directions."""
    draw_SNC = torch.stack([uniform_draws(0, step, torch.arange(200), 3) for step in range(50)])
    assert stats.kstest(draw_SNC.flatten().numpy(), "uniform").pvalue > 0.001
    for dim in range(3):
        length = draw_SNC.shape[dim]
        one, other = draw_SNC.narrow(dim, 0, length - 1), draw_SNC.narrow(dim, 1, length - 1)
        correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()
        assert abs(correlation) < 4 / one.numel() ** 0.5


def test_a_rows_draws_do_not_depend_on_its_micro_batch():
    together = uniform_draws(5, 3, torch.tensor([4, 9, 2]), 2)
    assert torch.equal(together[1:2], uniform_draws(5, 3, torch.tensor([9]), 2))


def test_steps_are_dropped_at_their_probability_and_by_the_seed():
    """Of 4,000 steps, within four standard errors of 3,000; another seed drops others."""
    dropped = [is_dropped(82, step, 0.75) for step in range(4000)]
    assert abs(sum(dropped) - 3000) < 4 * (4000 * 0.75 * 0.25) ** 0.5
    assert dropped != [is_dropped(23, step, 0.75) for step in range(4000)]
    assert dropped == [is_dropped(82, step, 0.75) for step in range(4000)]


def test_a_dropout_of_zero_drops_nothing_and_a_larger_one_drops_what_a_smaller_one_does():
    for step in range(200):
        assert not is_dropped(1, step, 0.0)
        assert is_dropped(1, step, 0.25) <= is_dropped(1, step, 0.75)


def test_directions_are_uniform_on_the_sphere_and_drawn_by_seed_and_step():
    """Unit length; a coordinate's square is Beta(1/2, (D - 1)/2); another step or seed gives others."""
    direction_SD = unit_directions(3, 7, 512, 6, torch.device("cpu"))
    torch.testing.assert_close(direction_SD.norm(dim=1), torch.ones(512, dtype=torch.float64))
    for coordinate_S in direction_SD.T:
        assert stats.kstest(coordinate_S.square().numpy(), stats.beta(0.5, 2.5).cdf).pvalue > 0.001
        assert abs(coordinate_S.sign().mean()) < 4 / 512**0.5
    for seed, step in ((3, 8), (4, 7)):
        assert (unit_directions(seed, step, 512, 6, torch.device("cpu")) != direction_SD).all()
    assert torch.equal(unit_directions(3, 7, 512, 6, torch.device("cpu")), direction_SD)
