"""Prepares HellaSwag: beginnings of everyday accounts, each with four endings, one of them correct.

python data/hellaswag.py --output_dir data/hellaswag [--input_dir DIR]
"""

from llm_jepa.preparers.data_set import DataSet, published_splits
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = "https://raw.githubusercontent.com/rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57/data"
TRAIN_ROWS, TEST_ROWS = 39_905, 10_042
VALIDATION_SHARE = 0.03


def to_row(record: Record) -> Row:
    """The beginning, its correct ending, and all four endings."""
    endings = record.texts("endings")
    return {"source": record.text("ctx"), "target": endings[record.choice("label", len(endings))], "choices": endings}


DATA_SET = DataSet(
    name="hellaswag",
    title="HellaSwag",
    description="Beginnings of accounts from ActivityNet captions and WikiHow, each with one true ending and "
    "three generated ones. `test` is the published validation split: the published test split has no labels.",
    source="Zellers et al. 2019, HellaSwag: Can a Machine Really Finish Your Sentence? (arXiv 1905.07830); "
    "github.com/rowanz/hellaswag",
    licence="mit",
    licence_text="MIT, Copyright (c) 2019 Rowan Zellers.",
    columns={"source": "the beginning", "target": "the true ending", "choices": "the four endings, a list"},
    files={
        "train": UpstreamFile(
            "hellaswag_train.jsonl",
            f"{PUBLISHED_AT}/hellaswag_train.jsonl",
            "git:1997e15fe638ef2aeec6993471159295cd75aab7",
            TRAIN_ROWS,
        ),
        "test": UpstreamFile(
            "hellaswag_val.jsonl",
            f"{PUBLISHED_AT}/hellaswag_val.jsonl",
            "git:0f5ee25d72216f12317d5d8a7b92deafa423d81e",
            TEST_ROWS,
        ),
    },
    make_splits=published_splits(to_row, validation_share=VALIDATION_SHARE),
    task_categories=("multiple-choice",),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
