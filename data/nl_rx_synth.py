"""Prepares NL-RX-SYNTH, descriptions and their regexes, from the files of the LLM-JEPA reference code.

    python data/nl_rx_synth.py --train synth_train.jsonl --test synth_test.jsonl --output_dir data/nl_rx_synth

Source: Locascio et al. 2016, Neural Generation of Regular Expressions from Natural Language (arXiv 1608.03000); the
split is that of the LLM-JEPA reference code (github.com/galilai-group/llm-jepa, datasets/synth_train.jsonl and
synth_test.jsonl), one conversation a line. Test rows whose source or target also occurs in the training rows are left
out, and so are those of the dev split, which is cut from the training rows. Columns: `source`, `target`.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TRAIN_ROWS, TEST_ROWS = 8000, 2000
DEV_ROWS = 500
SPLIT_SEED = 0


class Pair(NamedTuple):
    """One row."""

    source: str
    target: str


def read_pairs(path: Path) -> list[Pair]:
    """The last user turn and the last assistant turn of each conversation.

    Raises:
        ValueError: A line is no such conversation.
    """
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            turns = {message["role"]: message["content"].strip() for message in json.loads(line)["messages"]}
            pairs.append(Pair(turns["user"], turns["assistant"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"`{path}`, line {number}: no conversation with a user and an assistant turn.") from error
    return pairs


def without_overlap(pairs: Iterable[Pair], seen: Iterable[Pair]) -> list[Pair]:
    """The pairs of which neither source nor target occurs in others."""
    sources, targets = ({*column} for column in zip(*seen, strict=True))
    return [pair for pair in pairs if pair.source not in sources and pair.target not in targets]


def split(train: list[Pair], test: list[Pair]) -> dict[str, list[Pair]]:
    """Train, dev and test rows, none of which shares a source or a target with one of another split."""
    shuffled = random.Random(SPLIT_SEED).sample(train, len(train))
    kept = shuffled[DEV_ROWS:]
    dev = without_overlap(shuffled[:DEV_ROWS], kept)
    return {"train": kept, "validation": dev, "test": without_overlap(test, [*kept, *dev])}


def main() -> None:
    """Write the three splits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="synth_train.jsonl")
    parser.add_argument("--test", type=Path, required=True, help="synth_test.jsonl")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    train, test = read_pairs(args.train), read_pairs(args.test)
    if (len(train), len(test)) != (TRAIN_ROWS, TEST_ROWS):
        parser.error(f"expected {TRAIN_ROWS} and {TEST_ROWS} rows, found {len(train)} and {len(test)}")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, pairs in split(train, test).items():
        text = "".join(json.dumps(pair._asdict(), ensure_ascii=False) + "\n" for pair in pairs)
        (args.output_dir / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{name}: {len(pairs)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}")
    print(
        f"left out of test: {len(test) - len(split(train, test)['test'])} rows that overlap with train or validation"
    )


if __name__ == "__main__":
    main()
