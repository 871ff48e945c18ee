"""The log of an evaluation: what was written whole is never lost, whatever its texts hold, wherever a kill falls."""

import json

import pytest

from llm_jepa.evaluation.generation import Completion
from llm_jepa.evaluation.prediction_log import PredictionLog, discard_log, log_path

SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x1cf\rg\nh"
"""Everything at which `str.splitlines` splits."""
TEXTS = {0: Completion("first", True, 1), 1: Completion(SEPARATORS, False, 9), 2: Completion("≠", True, 2)}


@pytest.fixture
def path(tmp_path):
    return log_path(tmp_path / "run", "tuned")


def test_what_was_stored_is_found_again(path):
    log = PredictionLog(path, {"model": 1})
    log.append_completions({1: TEXTS[1], 0: TEXTS[0]})
    log.append_log_probs({0: -0.1, 3: -1e-300})
    log.append_completions({2: TEXTS[2]})
    again = PredictionLog(path, {"model": 1})
    assert again.completions == TEXTS
    assert again.log_probs == {0: -0.1, 3: -1e-300}
    assert PredictionLog(path, {"model": 2}).completions == {}
    assert PredictionLog(path, {"model": 1}).completions == {}, "the file is the other model's now"


def test_a_log_is_found_again_wherever_a_kill_cut_it_and_goes_on(path):
    """Cut after every byte. Each restart keeps the whole lines before the cut, and what is appended after it."""
    log = PredictionLog(path, {})
    log.append_completions(TEXTS)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 1 + len(TEXTS)
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        known = max(0, sum(end <= cut for end in ends) - 1)
        resumed = PredictionLog(path, {})
        assert len(resumed.completions) == known
        resumed.append_completions({i: one for i, one in TEXTS.items() if i >= known})
        assert PredictionLog(path, {}).completions == TEXTS
        assert path.read_bytes() == content


def test_a_line_that_is_no_record_is_cut_off_with_all_after_it(path):
    """As a machine that lost its power leaves a file: a block of zeros."""
    PredictionLog(path, {}).append_completions({0: TEXTS[0]})
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100 + b"\n" + json.dumps({"choice": 0, "log_prob": -1}).encode() + b"\n")
    log = PredictionLog(path, {})
    assert (log.completions, log.log_probs) == ({0: TEXTS[0]}, {})
    assert path.read_bytes() == whole


def test_a_log_is_discarded_once(path):
    PredictionLog(path, {})
    discard_log(path.parent, "tuned")
    discard_log(path.parent, "tuned")
    assert not path.exists()
