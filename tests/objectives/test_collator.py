"""The collator names the target of each row by its tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.objectives.pair import token_key
from tests.tiny import PAIRS
from tests.trainers import jepa_trainer

TOKEN_IDS = st.lists(st.integers(0, 3), max_size=4)


@given(TOKEN_IDS, TOKEN_IDS)
def test_a_key_is_equal_for_equal_tokens_and_only_for_them(one, other):
    """It fits into a signed integer of 64 bits."""
    assert (token_key(one) == token_key(other)) == (one == other)
    assert -(2**63) <= token_key(one) < 2**63


def test_a_key_is_the_same_in_every_process():
    """Blake2b of little-endian 64-bit integers, unlike Python's salted hashes."""
    assert token_key([1, 2, 300]) == 2900982226632577086


@pytest.mark.parametrize(("direction", "same"), [("source_to_target", "target"), ("target_to_source", "source")])
def test_rows_share_a_key_where_the_predicted_view_is_the_same(direction, same, tmp_path):
    rows = [PAIRS[0], PAIRS[1] | {same: PAIRS[0][same]}, PAIRS[2]]
    trainer = jepa_trainer(tmp_path, rows, jepa_direction=direction)
    keys = trainer.data_collator(list(trainer.train_dataset))["extras"]["target_key"].tolist()
    assert keys[0] == keys[1] != keys[2]
