"""Prepares NQ-Open: questions to a search engine, and their short answers.

python data/nq_open.py --output_dir data/nq_open [--input_dir DIR]
"""

from llm_jepa.preparers.data_set import DataSet, published_splits
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row
from llm_jepa.preparers.upstream import UpstreamFile
from llm_jepa.scoring.tasks import GOLD_SEPARATOR

PUBLISHED_AT = (
    "https://raw.githubusercontent.com/google-research-datasets/natural-questions/"
    "fb26a3073b1fe636c97302890a27b491d6530130/nq_open"
)
TRAIN_ROWS, TEST_ROWS = 87_925, 3_610
VALIDATION_SHARE = 0.02


def to_row(record: Record) -> Row:
    """The first answer is the target."""
    answers = record.texts("answer")
    return {"source": record.text("question"), "target": answers[0], "answers": answers}


def to_held_out_row(record: Record) -> Row:
    """Every answer is correct: the target joins all of them, and scorers split it."""
    row = to_row(record)
    return row | {"target": GOLD_SEPARATOR.join(row["answers"])}


DATA_SET = DataSet(
    name="nq_open",
    title="NQ-Open",
    description="Questions that people asked a search engine, and their short answers in the English Wikipedia. "
    "`test` is the published dev split, on which NQ-Open is commonly scored.",
    source="Lee, Chang and Toutanova 2019, Latent Retrieval for Weakly Supervised Open Domain Question Answering "
    "(arXiv 1906.00300), from Natural Questions (Kwiatkowski et al. 2019); "
    "github.com/google-research-datasets/natural-questions, folder nq_open",
    licence="cc-by-sa-3.0",
    licence_text="CC BY-SA 3.0: name the source, and share what you make of it under the same licence.",
    columns={
        "source": "the question",
        "target": "the first answer; in `test` and `validation` all of them, joined by `; `, as `task: qa` reads it",
        "answers": "all answers, a list",
    },
    files={
        "train": UpstreamFile(
            "NQ-open.train.jsonl",
            f"{PUBLISHED_AT}/NQ-open.train.jsonl",
            "git:cfb6afd0df24a0e2dc193cd39fa6c22f495c3e2f",
            TRAIN_ROWS,
        ),
        "test": UpstreamFile(
            "NQ-open.dev.jsonl",
            f"{PUBLISHED_AT}/NQ-open.dev.jsonl",
            "sha256:f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
            TEST_ROWS,
        ),
    },
    make_splits=published_splits(to_row, to_held_out_row, VALIDATION_SHARE),
    task_categories=("question-answering",),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
