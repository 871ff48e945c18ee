"""Prepares Yelp reviews with one to five stars.

python data/yelp.py --output_dir data/yelp [--input_dir DIR]
"""

from llm_jepa.preparers.data_set import DataSet, published_splits
from llm_jepa.preparers.labels import labelled_row
from llm_jepa.preparers.program import run
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = "hf://datasets/Yelp/yelp_review_full/yelp_review_full"
ROWS = {"train": 650_000, "test": 50_000}
VALIDATION_SHARE = 0.005
WORDS = ("very bad", "bad", "mediocre", "good", "very good")

DATA_SET = DataSet(
    name="yelp",
    title="Yelp Review Full",
    description="Reviews from Yelp and their stars, one to five, in words.",
    source="Zhang, Zhao and LeCun 2015, Character-level Convolutional Networks for Text Classification (arXiv "
    "1509.01626), from the Yelp Dataset Challenge 2015; on the Hub as Yelp/yelp_review_full",
    licence="other",
    licence_text="Yelp's Dataset Terms of Use: no commercial use, and no redistribution. Keep prepared files private.",
    columns={"source": "the review", "target": "the stars in words", "choices": "the five words, a list"},
    files={
        split: UpstreamFile(
            f"{split}-00000-of-00001.parquet", f"{PUBLISHED_AT}/{split}-00000-of-00001.parquet", num_rows=rows
        )
        for split, rows in ROWS.items()
    },
    make_splits=published_splits(labelled_row(WORDS), validation_share=VALIDATION_SHARE),
    task_categories=("text-classification",),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
