"""Selective decoding of streams of pictures: how often to decode, and how many answers are right then.

    python benchmarks/vl_streams.py --run outputs/vl/openmoji --data data/openmoji_scenes [--decoding text]

Every moment is embedded with the stream's question; decoding takes the nearest of the objects of `test.jsonl`, or the
text that the run's text decoder writes. A moment that is not decoded has the text of another one. Right is what the
stream shows at a moment, so the count is of quality and not of decodes alone.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from llm_jepa.inference.ranking import unit_rows
from llm_jepa.inference.selective import (
    choose_threshold,
    last_decoded,
    nearest_in_time,
    offline_stand_ins,
    online_moments,
    uniform_moments,
)
from llm_jepa.models.decoder_files import has_text_decoder
from llm_jepa.vision.model import VLJEPAModel

Decoding = Literal["nearest", "text"]
"""The nearest of the objects, or what `llm-jepa train-decoder` has learnt to write."""
SHARES = (1 / 30, 1 / 20, 1 / 12, 1 / 10, 1 / 6, 1 / 4, 1 / 2)
"""Shares of the moments that are decoded."""


@dataclass(frozen=True)
class EmbeddedStream:
    """A stream: the embedding of each moment, the text that is decoded of it, and the right answer."""

    embedding_TD: NDArray
    decoded: list[str]
    answers: list[str]
    changes: list[int]


@dataclass(frozen=True)
class Point:
    """What a way of selecting does on all streams: the share of moments it decodes, the share it answers rightly."""

    way: str
    decoded_share: float
    right_share: float


def embed_streams(run: Path, data: Path, decoding: Decoding = "nearest") -> list[EmbeddedStream]:
    """Embed and decode every moment of the streams of a data set."""
    model = VLJEPAModel.from_pretrained(run).eval()
    directory = data / "streams"
    rows = _read(directory / "test.jsonl")
    texts = sorted({name for row in _read(data / "test.jsonl") for name in row["objects"]})
    unit_MD = unit_rows(model.encode_text(texts).numpy())
    streams = []
    for row in rows:
        paths = [directory / path for path in row["image"]]
        prediction_TD = model.predict(paths, [row["question"]] * len(paths))
        unit_TD = unit_rows(prediction_TD.numpy())
        if decoding == "text":
            decoded = model.decode(prediction_TD)
        else:
            decoded = [texts[best] for best in (unit_TD @ unit_MD.T).argmax(axis=1)]
        streams.append(EmbeddedStream(unit_TD, decoded, row["answers"], row["changes"]))
    return streams


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def right_share(streams: Sequence[EmbeddedStream], stand_ins: Sequence[NDArray], way: str) -> Point:
    """Count what is right when the decoded text of `stand_ins`, a moment for each moment, stands for all.

    Example: of 6 moments 1 and 4 are decoded and stand for 1 1 1 4 4 4; 2 / 6 are decoded.
    """
    right = [
        stream.decoded[moment] == answer
        for stream, moment_T in zip(streams, stand_ins, strict=True)
        for moment, answer in zip(moment_T, stream.answers, strict=True)
    ]
    num_decoded = sum(len(np.unique(moment_T)) for moment_T in stand_ins)
    return Point(way, num_decoded / len(right), float(np.mean(right)))


def points(streams: Sequence[EmbeddedStream]) -> list[Point]:
    """Each way at each share, then every moment, and the moments at which the scene is known to change."""
    found = []
    for share in SHARES:
        found.append(right_share(streams, [_uniform(one, share) for one in streams], "uniform"))
        ward = [offline_stand_ins(one.embedding_TD, _number(one, share)) for one in streams]
        found.append(right_share(streams, ward, "Ward"))
        thresholds = _thresholds(streams, share)
        if thresholds is not None:
            online = [
                _last(one, online_moments(one.embedding_TD, t)) for one, t in zip(streams, thresholds, strict=True)
            ]
            found.append(right_share(streams, online, "online"))
    every = [np.arange(len(one.answers)) for one in streams]
    known = [_last(one, np.array([0, *one.changes])) for one in streams]
    return [*found, right_share(streams, every, "every moment"), right_share(streams, known, "at the known changes")]


def _number(stream: EmbeddedStream, share: float) -> int:
    return max(1, round(share * len(stream.answers)))


def _uniform(stream: EmbeddedStream, share: float) -> NDArray:
    num_moments = len(stream.answers)
    return nearest_in_time(uniform_moments(num_moments, _number(stream, share)), num_moments)


def _last(stream: EmbeddedStream, moment_K: NDArray) -> NDArray:
    return last_decoded(moment_K, len(stream.answers))


def _thresholds(streams: Sequence[EmbeddedStream], share: float) -> list[float] | None:
    """The online threshold of each stream, chosen on the half that it is not in; None if none decodes as little."""
    try:
        chosen = [choose_threshold([one.embedding_TD for one in streams[start::2]], share) for start in (1, 0)]
    except ValueError:
        return None
    return [chosen[i % 2] for i in range(len(streams))]


def report(found: Sequence[Point]) -> str:
    """The points as a table."""
    lines = ["| way | decoded, % of moments | right, % of moments |", "|---|---|---|"]
    lines += [f"| {one.way} | {100 * one.decoded_share:.1f} | {100 * one.right_share:.1f} |" for one in found]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="a run of VL-JEPA")
    parser.add_argument("--data", type=Path, required=True, help="what openmoji_scenes.py has prepared")
    parser.add_argument("--decoding", choices=get_args(Decoding), default="nearest", help="default: nearest")
    parser.add_argument("--output", type=Path, help="a JSON file for the points")
    options = parser.parse_args()
    if options.decoding == "text" and not has_text_decoder(options.run):
        parser.error(f"{options.run} has no text decoder. Train one: llm-jepa train-decoder {options.run}")
    found = points(embed_streams(options.run, options.data, options.decoding))
    print(report(found))
    if options.output is not None:
        options.output.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
