"""Prepares GSM8K: grade-school mathematics problems and their worked solutions.

python data/gsm8k.py --output_dir data/gsm8k [--input_dir DIR]
"""

from llm_jepa.preparers.data_set import DataSet, published_splits
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row, by_either_view
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/"
    "grade_school_math/data"
)
TRAIN_ROWS, TEST_ROWS = 7473, 1319
VALIDATION_SHARE = 0.05


def to_row(record: Record) -> Row:
    """The solution is unchanged, with its calculator annotations and `#### N` at its end."""
    return {"source": record.text("question"), "target": record.text("answer")}


DATA_SET = DataSet(
    name="gsm8k",
    title="GSM8K",
    description="Grade-school mathematics problems in words, and their solutions step by step.",
    source="Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems (arXiv 2110.14168); "
    "github.com/openai/grade-school-math",
    licence="mit",
    licence_text="MIT, Copyright (c) 2021 OpenAI.",
    columns={
        "source": "the problem",
        "target": "the solution, with calculations as `<<48/2=24>>` and the answer as `#### N` in its last line",
    },
    files={
        "train": UpstreamFile(
            "train.jsonl",
            f"{PUBLISHED_AT}/train.jsonl",
            "sha256:17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
            TRAIN_ROWS,
        ),
        "test": UpstreamFile(
            "test.jsonl",
            f"{PUBLISHED_AT}/test.jsonl",
            "sha256:3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
            TEST_ROWS,
        ),
    },
    make_splits=published_splits(to_row, validation_share=VALIDATION_SHARE),
    overlap=by_either_view,
    overlap_text="a source or a target",
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
