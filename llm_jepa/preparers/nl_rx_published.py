"""NL-RX as the LLM-JEPA reference code splits it, with generated descriptions (SYNTH) or people's own (TURK)."""

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.records import IncompleteRecordError, Record, checked_text
from llm_jepa.preparers.splits import LeftOut, Row, Splits, by_either_view, convert
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/galilai-group/llm-jepa/6d7d0d1f296441beff39a95c801db7f683e3b353/datasets"
)
ROWS = {"train": 8000, "test": 2000}
VALIDATION_ROWS = 500
SPLIT_SEED = 0


def nl_rx_data_set(kind: str, descriptions: str, sha256: Mapping[str, str]) -> DataSet:
    """The data set of one kind of descriptions.

    Args:
        kind: `synth` or `turk`.
        descriptions: The origin of the English descriptions, in words.
        sha256: Split -> checksum of its file.
    """
    return DataSet(
        name=f"nl_rx_{kind}",
        title=f"NL-RX-{kind.upper()}",
        description=f"English descriptions of lines of text, {descriptions}, and the regular expressions they mean. "
        "NL-RX-SYNTH and NL-RX-TURK have the same regexes: never train on one and test on the other.",
        source="Locascio et al. 2016, Neural Generation of Regular Expressions from Natural Language with Minimal "
        "Domain Knowledge (arXiv 1608.03000), github.com/nicholaslocascio/deep-regex; split into train and test by "
        "the LLM-JEPA reference code, github.com/galilai-group/llm-jepa.",
        licence="mit",
        licence_text="the data set is published under the MIT licence, Copyright (c) 2016 Nick Locascio; the files "
        "that split it under Apache-2.0.",
        columns={
            "source": "the description",
            "target": "the regex, with `&` for intersection and `~` for complement",
        },
        files={
            split: UpstreamFile(
                f"{kind}_{split}.jsonl", f"{PUBLISHED_AT}/{kind}_{split}.jsonl", f"sha256:{sha256[split]}", rows
            )
            for split, rows in ROWS.items()
        },
        make_splits=make_splits,
        overlap=by_either_view,
        overlap_text="a source or a target",
        keep_duplicates=True,  # as published, and as in the measurements
    )


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    """Splits in which training rows take precedence. `validation` is VALIDATION_ROWS of them, a sixteenth at most."""
    rows = list(convert(inputs["train"].records(), to_row))
    incomplete = [replace(row, is_before_split=True) for row in rows if isinstance(row, LeftOut)]
    complete = [row for row in rows if not isinstance(row, LeftOut)]
    shuffled = random.Random(SPLIT_SEED).sample(complete, len(complete))
    num_validation = min(VALIDATION_ROWS, len(complete) // 16)
    return {
        "train": lambda: [*incomplete, *shuffled[num_validation:]],
        "validation": lambda: shuffled[:num_validation],
        "test": lambda: convert(inputs["test"].records(), to_row),
    }


def to_row(record: Record) -> Row:
    """The last user turn and the last assistant turn of a conversation."""
    try:
        turns = {message["role"]: message["content"] for message in record.column("messages")}
        return {"source": checked_text(turns["user"], "user"), "target": checked_text(turns["assistant"], "assistant")}
    except (KeyError, TypeError) as error:
        raise IncompleteRecordError("it is not a conversation with a user and an assistant turn.") from error
