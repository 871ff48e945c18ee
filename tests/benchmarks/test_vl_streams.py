"""Selective decoding of streams counts right answers, by hand; moments are decoded as the model does."""

import json
from pathlib import Path

import numpy as np

from llm_jepa.cli import main
from llm_jepa.vision.model import VLJEPAModel
from tests.preparers.scripts import load_script
from tests.vision.tiny_parts import COLOURS
from tests.vision.tiny_runs import tiny_run

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


def test_a_stream_is_decoded_by_the_nearest_object_or_by_the_text_decoder(tmp_path):
    """Each moment as the model decodes it alone."""
    run = tiny_run(tmp_path)
    assert main(["train-decoder", str(run), "--num_steps=2", "--max_rows=2"]) == 0
    (tmp_path / "test.jsonl").write_text(json.dumps({"objects": [*COLOURS]}) + "\n")
    (tmp_path / "streams").mkdir()
    shown = ["red", "blue", "blue"]
    row = {"image": [f"../{name}.png" for name in shown], "question": "which one?", "answers": shown, "changes": [1]}
    (tmp_path / "streams" / "test.jsonl").write_text(json.dumps(row) + "\n")
    model = VLJEPAModel.from_pretrained(run).eval()
    for decoding in ("nearest", "text"):
        (one,) = SCRIPT.embed_streams(run, tmp_path, decoding)
        for name, text in zip(shown, one.decoded, strict=True):
            asked = [tmp_path / f"{name}.png"], ["which one?"]
            alone = model.rank(*asked, [[*COLOURS]])[0][0].answer if decoding == "nearest" else None
            assert text == (alone or model.decode(model.predict(*asked))[0])
