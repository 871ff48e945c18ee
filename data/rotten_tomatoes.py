"""Prepares Rotten Tomatoes: sentences of film reviews, positive or negative.

python data/rotten_tomatoes.py --output_dir data/rotten_tomatoes [--input_dir DIR]
"""

from llm_jepa.preparers.data_set import DataSet, published_splits
from llm_jepa.preparers.labels import labelled_row
from llm_jepa.preparers.program import run
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = "hf://datasets/cornell-movie-review-data/rotten_tomatoes"
ROWS = {"train": 8530, "validation": 1066, "test": 1066}
WORDS = ("negative", "positive")

DATA_SET = DataSet(
    name="rotten_tomatoes",
    title="Rotten Tomatoes",
    description="Sentences of film reviews, each positive or negative.",
    source="Pang and Lee 2005, Seeing Stars: Exploiting Class Relationships for Sentiment Categorization with Respect "
    "to Rating Scales (arXiv cs/0506075); on the Hub as cornell-movie-review-data/rotten_tomatoes",
    licence="unknown",
    licence_text="none is stated; the authors ask to be cited.",
    columns={"source": "the sentence", "target": "`positive` or `negative`", "choices": "both words, a list"},
    files={
        split: UpstreamFile(f"{split}.parquet", f"{PUBLISHED_AT}/{split}.parquet", num_rows=rows)
        for split, rows in ROWS.items()
    },
    make_splits=published_splits(labelled_row(WORDS)),
    task_categories=("text-classification",),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
