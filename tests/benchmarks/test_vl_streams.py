"""Selective decoding of streams counts right answers, by hand."""

from pathlib import Path

import numpy as np

from tests.preparers.scripts import load_script

SCRIPT = load_script(Path(__file__).parents[2] / "benchmarks" / "vl_streams.py")


def stream(*answers: str, wrong_at: int | None = None):
    """A stream whose embeddings are one of two directions; at one moment the decoder is wrong."""
    unit_TD = np.array([[1.0, 0.0] if answer == "a" else [0.0, 1.0] for answer in answers])
    decoded = ["c" if t == wrong_at else answer for t, answer in enumerate(answers)]
    changes = [t for t in range(1, len(answers)) if answers[t] != answers[t - 1]]
    return SCRIPT.EmbeddedStream(unit_TD, decoded, [*answers], changes)


def test_a_moment_that_is_not_decoded_has_the_answer_of_the_one_that_stands_for_it():
    one = stream(*"aabbbb")
    uniform = SCRIPT.right_share([one], [np.array([1, 1, 1, 4, 4, 4])], "uniform")
    assert (uniform.decoded_share, uniform.right_share) == (2 / 6, 5 / 6)  # 1 1 1 4 4 4: moment 2 has that of 1
    online = SCRIPT.right_share([one], [np.array([0, 0, 0, 3, 3, 3])], "online")
    assert online.right_share == 5 / 6  # 0 0 0 3 3 3


def test_a_decode_at_each_change_is_right_where_the_decoder_is():
    found = {point.way: point for point in SCRIPT.points([stream(*"aabbbb"), stream(*"aaaabb", wrong_at=4)])}
    assert found["every moment"].right_share == 11 / 12
    assert found["at the known changes"].right_share == 10 / 12  # the wrong decode stands for two moments
    assert found["at the known changes"].decoded_share == 4 / 12


def test_segments_of_the_whole_stream_are_found_where_it_changes():
    streams = [stream(*"aaaaaaaabbbb")] * 2
    two = [point for point in SCRIPT.points(streams) if point.way == "Ward"]
    by_share = {point.decoded_share: point.right_share for point in two}
    assert by_share[2 / 12] == 1.0
    assert by_share[1 / 12] == 8 / 12


def test_the_report_has_a_line_for_each_point():
    table = SCRIPT.report([SCRIPT.Point("Ward", 0.1, 0.5)])
    assert table.splitlines()[2] == "| Ward | 10.0 | 50.0 |"
