"""A compact set of 64-bit digests, about 10 bytes an item, to recognise repeated items."""

import hashlib
import json
from array import array
from bisect import bisect_left
from collections import defaultdict
from typing import Any

DIGEST_BITS = 64
BUCKET_BITS = 14


def digest(value: Any) -> int:
    """A hash of a JSON value, uniform below 2 ** DIGEST_BITS and the same on every machine."""
    hashed = hashlib.blake2b(json.dumps(value).encode(), digest_size=16).digest()
    return int.from_bytes(hashed[: DIGEST_BITS // 8])


class DigestSet:
    """A set of digests: a sorted array of 8 bytes an item for each prefix of BUCKET_BITS bits.

    The probability that any two of n different items have the same digest is about n^2 / 2^65: 3 in 10,000 for
    10^8 items.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, array[int]] = defaultdict(lambda: array("Q"))

    def add(self, item: int) -> bool:
        """Add a digest, and return whether it was new."""
        bucket = self._buckets[item >> (DIGEST_BITS - BUCKET_BITS)]
        position = bisect_left(bucket, item)
        if position < len(bucket) and bucket[position] == item:
            return False
        bucket.insert(position, item)
        return True

    def __contains__(self, item: int) -> bool:
        bucket = self._buckets.get(item >> (DIGEST_BITS - BUCKET_BITS), ())
        position = bisect_left(bucket, item)
        return position < len(bucket) and bucket[position] == item
