"""Prepares BANKING77: questions of a bank's customers, each with one of 77 intents; `labels.txt` lists the intents.

python data/banking77.py --output_dir data/banking77 [--input_dir DIR]
"""

import argparse
from pathlib import Path

from llm_jepa.preparers.data_set import DataSet, Inputs, published_splits
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/"
    "banking_data"
)
TRAIN_ROWS, TEST_ROWS = 10_003, 3_080
VALIDATION_SHARE = 0.03
LABELS_FILE = "labels.txt"


def to_row(record: Record) -> Row:
    """The question, and its intent in words."""
    return {"source": record.text("text"), "target": words(record.text("category"))}


def words(category: str) -> str:
    """An intent's name in words: `card_arrival` is `card arrival`."""
    return category.replace("_", " ")


def write_labels(directory: Path, inputs: Inputs, options: argparse.Namespace) -> None:
    """Write the intents of the training rows, one a line, for `llm-jepa eval --labels`."""
    labels = sorted({words(record.text("category")) for record in inputs["train"].records()})
    (directory / LABELS_FILE).write_text("\n".join(labels) + "\n", encoding="utf-8")


DATA_SET = DataSet(
    name="banking77",
    title="BANKING77",
    description="Questions of a bank's customers, each with one of 77 intents in words. "
    f"`{LABELS_FILE}` has the intents, one a line.",
    source="Casanueva et al. 2020, Efficient Intent Detection with Dual Sentence Encoders (arXiv 2003.04807); "
    "github.com/PolyAI-LDN/task-specific-datasets",
    licence="cc-by-4.0",
    licence_text="CC BY 4.0: name the source, and say what was changed.",
    columns={"source": "the question", "target": "the intent, its underscores replaced by spaces"},
    files={
        "train": UpstreamFile(
            "train.csv",
            f"{PUBLISHED_AT}/train.csv",
            "sha256:b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
            TRAIN_ROWS,
        ),
        "test": UpstreamFile(
            "test.csv",
            f"{PUBLISHED_AT}/test.csv",
            "sha256:d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
            TEST_ROWS,
        ),
    },
    make_splits=published_splits(to_row, validation_share=VALIDATION_SHARE),
    task_categories=("text-classification",),
    write_more=write_labels,
    more_files=(LABELS_FILE,),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
