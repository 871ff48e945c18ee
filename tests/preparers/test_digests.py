"""A set of digests is a set, in a few bytes an item."""

import random
import sys

from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.preparers.digests import DigestSet, digest


@given(st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 40), st.integers(2**64 - 40, 2**64 - 1))))
def test_it_is_a_set(items):
    digests, expected = DigestSet(), set()
    for item in items:
        assert (item in digests) == (item in expected)
        assert digests.add(item) == (item not in expected)
        expected.add(item)
    assert all(item in digests for item in expected)


def test_many_digests_are_told_apart():
    """Of texts that differ in a character, and added in no order."""
    numbers = random.Random(0).sample(range(20_000), 20_000)
    digests = DigestSet()
    assert all(digests.add(digest(["text", number])) for number in numbers)
    assert not any(digests.add(digest(["text", number])) for number in numbers)
    assert digest(["text", 20_000]) not in digests


def test_a_digest_is_the_same_on_every_machine():
    """It decides which rows are held out, so that a data set prepared again is the same."""
    assert digest(["split", "a text"]) == 0x8CF1D076F6661B38


def test_an_item_takes_8_bytes_and_little_more():
    """16 bytes of 400,000 items, the buckets' own counted; a set of Python's takes 78."""
    digests, random_bits = DigestSet(), random.Random(0).getrandbits
    for _ in range(400_000):
        digests.add(random_bits(64))
    assert sum(map(sys.getsizeof, digests._buckets.values())) < 16 * 400_000
