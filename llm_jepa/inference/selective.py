"""Which moments of a stream of embeddings to decode: where something changes. Pure functions of arrays.

Three ways: evenly spaced; one for each segment of the whole stream (selective decoding, VL-JEPA, arXiv 2512.10942); or
as the stream arrives. A moment that is not decoded has the text of the decoded moment nearest in time, by which even
spacing does well; or that of the last decoded one, as it is for somebody who follows the stream.
Legend: T moments, D the width, K decoded moments, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags_array
from sklearn.cluster import AgglomerativeClustering

from llm_jepa.inference.ranking import unit_rows

Assignment = Literal["nearest", "last"]
NUM_THRESHOLDS = 64


@dataclass(frozen=True)
class SelectivePoint:
    """What a way of selecting does.

    Attributes:
        num_decodes: Moments that are decoded.
        quality: Mean similarity of a moment and the decoded one that stands for it.
    """

    num_decodes: int
    quality: float


def uniform_moments(num_moments: int, num_decodes: int) -> NDArray:
    """The middles of equal parts of a stream: moment_K.

    Example: 2 of 10 moments are those of the parts 0 to 4 and 5 to 9, so 2 and 7.

    Raises:
        ValueError: There are fewer moments than decodes, or no decode.
    """
    _check_decodes(num_moments, num_decodes)
    return ((2 * np.arange(num_decodes) + 1) * num_moments - 1) // (2 * num_decodes)


def offline_moments(embedding_TD: NDArray, num_decodes: int) -> NDArray:
    """The moments that stand for segments of a whole stream: moment_K.

    Ward's clustering of unit-length embeddings, in which only neighbours in time merge. Of each segment it is the
    moment nearest to the segment's mean, the first of equal ones.

    Raises:
        ValueError: There are fewer moments than decodes, or no decode.
    """
    return np.unique(offline_stand_ins(embedding_TD, num_decodes))


def offline_stand_ins(embedding_TD: NDArray, num_decodes: int) -> NDArray:
    """The moment of `offline_moments` that stands for each moment, that of its own segment: moment_T.

    Raises:
        ValueError: There are fewer moments than decodes, or no decode.
    """
    num_moments = len(embedding_TD)
    _check_decodes(num_moments, num_decodes)
    if num_moments == 1:
        return np.zeros(1, dtype=np.int64)
    unit_TD = unit_rows(embedding_TD)
    neighbours_TT = diags_array(np.ones((2, num_moments - 1)), offsets=(-1, 1)).tocsr()
    clustering = AgglomerativeClustering(num_decodes, linkage="ward", connectivity=neighbours_TT)
    segment_T = clustering.fit_predict(unit_TD)
    starts = np.flatnonzero(np.diff(segment_T, prepend=-1))
    ends = [*starts[1:], num_moments]
    moments = [start + _nearest_to_mean(unit_TD[start:end]) for start, end in zip(starts, ends, strict=True)]
    return np.repeat(moments, np.subtract(ends, starts))


def online_moments(embedding_TD: NDArray, threshold: float) -> NDArray:
    """The moments that a stream is decoded at as it arrives: moment_K.

    The first one, then each whose cosine distance to the last decoded one is above the threshold.

    Raises:
        ValueError: The stream is empty, or the threshold is negative.
    """
    if len(embedding_TD) == 0 or threshold < 0:
        raise ValueError(f"{len(embedding_TD)} moments, threshold {threshold}; give a moment, and at least 0.")
    unit_TD = unit_rows(embedding_TD)
    moments = [0]
    for t in range(1, len(unit_TD)):
        if 1 - float(unit_TD[t] @ unit_TD[moments[-1]]) > threshold:
            moments.append(t)
    return np.array(moments)


def nearest_in_time(moment_K: NDArray, num_moments: int) -> NDArray:
    """The decoded moment nearest to each moment, the earlier of two: moment_T.

    Example: of 6 moments 1 and 4 are decoded; the nearest are 1 1 1 4 4 4.
    """
    middles = (moment_K[:-1] + moment_K[1:]) / 2
    return moment_K[np.searchsorted(middles, np.arange(num_moments), side="left")]


def last_decoded(moment_K: NDArray, num_moments: int) -> NDArray:
    """The last decoded moment up to each moment; before the first one, the first: moment_T.

    Example: of 6 moments 1 and 4 are decoded; the last are 1 1 1 1 4 4.
    """
    return moment_K[np.maximum(np.searchsorted(moment_K, np.arange(num_moments), side="right") - 1, 0)]


def quality_of(embedding_TD: NDArray, moment_K: NDArray, assignment: Assignment = "nearest") -> SelectivePoint:
    """How well decoded moments stand for all: the mean cosine of a moment and the decoded one that stands for it.

    Args:
        assignment: Which decoded moment stands for a moment: the nearest in time, or the last.
    """
    stand_in = nearest_in_time if assignment == "nearest" else last_decoded
    decoded_T = stand_in(moment_K, len(embedding_TD))
    unit_TD = unit_rows(embedding_TD)
    return SelectivePoint(len(moment_K), float((unit_TD * unit_TD[decoded_T]).sum(axis=1).mean()))


def choose_threshold(streams: Sequence[NDArray], max_share: float) -> float:
    """The threshold of `online_moments` that does best on other streams, decoding at most a share of their moments.

    Thresholds are tried at the quantiles of the distances between neighbours; the highest mean quality wins, of equal
    ones the highest threshold. Streams count by their moments.

    Raises:
        ValueError: There are no streams of two moments, or no threshold decodes as little.
    """
    distances = [1 - (unit_TD[1:] * unit_TD[:-1]).sum(axis=1) for unit_TD in map(unit_rows, streams)]
    if not any(len(one) for one in distances):
        raise ValueError("A threshold is chosen on streams of at least two moments; give one.")
    levels = np.quantile(np.concatenate(distances), np.linspace(0, 1, NUM_THRESHOLDS))
    total = sum(len(stream) for stream in streams)
    found: list[tuple[float, float]] = []
    for threshold in np.unique(np.maximum([*levels, 2.0], 0)):
        points = [quality_of(stream, online_moments(stream, threshold), "last") for stream in streams]
        if sum(point.num_decodes for point in points) <= max_share * total:
            weighted = sum(len(stream) * point.quality for stream, point in zip(streams, points, strict=True))
            found.append((weighted / total, float(threshold)))
    if not found:
        raise ValueError(
            f"Each of the {len(streams)} streams is decoded once at least, more than {max_share} of {total} moments. "
            "Raise `max_share`."
        )
    return max(found)[1]


def _nearest_to_mean(unit_SD: NDArray) -> int:
    return int(np.argmax(unit_SD @ unit_SD.mean(axis=0)))


def _check_decodes(num_moments: int, num_decodes: int) -> None:
    if not 1 <= num_decodes <= num_moments:
        raise ValueError(f"`num_decodes` is {num_decodes} of {num_moments} moments; allowed are 1 to {num_moments}.")
