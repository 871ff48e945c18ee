"""What `pair` makes of its options before any model is there."""

import pytest

from llm_jepa.objectives.pair import target_layer_index


@pytest.mark.parametrize(
    ("depth", "num_layers", "index"),
    [(1.0, 30, None), (0.99, 30, None), (2 / 3, 30, 20), (0.5, 2, 1), (0.01, 30, 1), (0.1, 1, None)],
)
def test_a_depth_is_the_nearest_layer_the_first_at_least_and_none_for_all(depth, num_layers, index):
    assert target_layer_index(depth, num_layers) == index
