"""Which moments of a stream are decoded, by hand and on a stream whose changes are known."""

import numpy as np
import pytest

from llm_jepa.inference.selective import (
    choose_threshold,
    last_decoded,
    nearest_in_time,
    offline_moments,
    online_moments,
    quality_of,
    uniform_moments,
)

LENGTHS = (3, 20, 4, 13)
CHANGES = np.cumsum([0, *LENGTHS])
"""A stream has four scenes of these lengths."""


def stream(seed: int = 0, noise: float = 0.05) -> np.ndarray:
    generator = np.random.default_rng(seed)
    scenes = np.repeat(np.eye(8)[:4], LENGTHS, axis=0)
    return scenes + noise * generator.normal(size=scenes.shape)


def scenes_of(moment_K) -> list[int]:
    return list(np.searchsorted(CHANGES, moment_K, side="right") - 1)


def test_uniform_moments_are_the_middles_of_equal_parts():
    assert uniform_moments(10, 2).tolist() == [2, 7]
    assert uniform_moments(4, 4).tolist() == [0, 1, 2, 3]
    assert uniform_moments(5, 1).tolist() == [2]


def test_offline_moments_are_one_of_each_scene():
    moment_K = offline_moments(stream(), 4)
    assert scenes_of(moment_K) == [0, 1, 2, 3]
    assert scenes_of(uniform_moments(40, 4)) != [0, 1, 2, 3]
    assert offline_moments(stream(), 40).tolist() == list(range(40))
    assert len(offline_moments(stream(), 1)) == len(offline_moments(stream()[:1], 1)) == 1


def test_only_neighbours_in_time_share_a_segment():
    """The scene comes back: with three segments it is decoded twice."""
    there_and_back = np.repeat(np.eye(2)[[0, 1, 0]], 5, axis=0)
    assert [t // 5 for t in offline_moments(there_and_back, 3)] == [0, 1, 2]


def test_the_moment_of_a_segment_is_that_nearest_to_its_mean():
    """Angles 0, 10, 50 degrees have their mean near 20."""
    angle_T = np.radians([0, 10, 50])
    assert offline_moments(np.stack([np.cos(angle_T), np.sin(angle_T)], axis=1), 1).tolist() == [1]


def test_online_moments_are_those_at_which_something_changes():
    assert online_moments(stream(), 0.5).tolist() == CHANGES[:-1].tolist()
    assert online_moments(stream(), 2.0).tolist() == [0]
    drift_T = np.radians(np.arange(0, 100, 10))
    drift_TD = np.stack([np.cos(drift_T), np.sin(drift_T)], axis=1)
    assert online_moments(drift_TD, 1 - np.cos(np.radians(25))).tolist() == [0, 3, 6, 9]  # from the last decoded one


def test_an_online_moment_depends_on_no_later_one():
    whole, half = online_moments(stream(), 0.1), online_moments(stream()[:20], 0.1)
    assert whole[whole < 20].tolist() == half.tolist()


def test_the_nearest_in_time_is_the_earlier_of_two():
    assert nearest_in_time(np.array([1, 4]), 6).tolist() == [1, 1, 1, 4, 4, 4]
    assert nearest_in_time(np.array([0, 2]), 4).tolist() == [0, 0, 2, 2]
    assert nearest_in_time(np.array([3]), 5).tolist() == [3] * 5


def test_the_last_decoded_moment_is_held():
    assert last_decoded(np.array([1, 4]), 6).tolist() == [1, 1, 1, 1, 4, 4]
    assert last_decoded(np.array([0]), 3).tolist() == [0, 0, 0]


def test_quality_by_hand():
    """Moments 0 0 1 1 of two directions: one decode at 0 stands for half of them, two for all."""
    embedding_TD = np.eye(2)[[0, 0, 1, 1]]
    assert quality_of(embedding_TD, np.array([0])).quality == pytest.approx(0.5)
    point = quality_of(embedding_TD, np.array([0, 3]))
    assert (point.num_decodes, point.quality) == (2, pytest.approx(1.0))


def test_with_as_many_decodes_an_online_threshold_beats_uniform_spacing_for_who_follows_the_stream():
    uniform, online = (
        quality_of(stream(), moment_K, "last") for moment_K in (uniform_moments(40, 4), online_moments(stream(), 0.5))
    )
    assert uniform.num_decodes == online.num_decodes == 4
    assert online.quality > 0.95
    assert uniform.quality < 0.85


def test_a_threshold_is_chosen_on_other_streams():
    threshold = choose_threshold([stream(1), stream(2)], max_share=0.1)
    assert scenes_of(online_moments(stream(3), threshold)) == [0, 1, 2, 3]
    assert len(online_moments(stream(3), choose_threshold([stream(1)], max_share=1 / 40))) == 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda: uniform_moments(3, 4), "`num_decodes` is 4 of 3 moments; allowed are 1 to 3"),
    (lambda: offline_moments(stream(), 0), "`num_decodes` is 0 of 40 moments"),
    (lambda: online_moments(stream(), -1), "threshold -1; give a moment, and at least 0"),
    (lambda: choose_threshold([stream()[:1]], 1.0), "streams of at least two moments"),
    (lambda: choose_threshold([stream()], 0.01), "is decoded once at least"),
])  # fmt: skip
def test_what_cannot_be_selected_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
