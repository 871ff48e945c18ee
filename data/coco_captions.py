"""Prepares COCO captions 2017: pictures, each with five sentences.

    python data/coco_captions.py --output_dir data/coco_captions --images_dir COCO [--input_dir DIR]

`COCO` holds the published folders `train2017` and `val2017`. The pictures stay there.
"""

import argparse
from pathlib import Path

from llm_jepa.preparers.archive import member_bytes
from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.picture_files import annotation_records, by_id, picture_path
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row, Rows, Splits, convert, rows_of_split
from llm_jepa.preparers.upstream import UpstreamFile

ARCHIVE = "annotations_trainval2017.zip"
VALIDATION_SHARE = 0.02


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def rows(folder: str) -> Rows:
        member = f"annotations/captions_{folder}.json"
        document = member_bytes(inputs["annotations"].path, member)
        pictures = by_id(annotation_records(document, "images", f"`{member}`"), "id")

        def to_row(record: Record) -> Row:
            path = options.images_dir / folder / pictures[record.column("image_id")].text("file_name")
            return {"image": picture_path(path, options.output_dir), "answer": record.text("caption")}

        return convert(annotation_records(document, "annotations", f"`{member}`"), to_row)

    def train(split: str) -> Rows:
        return rows_of_split(rows("train2017"), {"validation": VALIDATION_SHARE}, split, key=lambda row: row["image"])

    return {
        "test": lambda: rows("val2017"),
        "validation": lambda: train("validation"),
        "train": lambda: train("train"),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images_dir", type=Path, required=True, help="the directory of train2017 and val2017")


DATA_SET = DataSet(
    name="coco_captions",
    title="COCO captions 2017",
    description="Photographs, each with five sentences by different people. `test` is the published validation split.",
    source="Chen et al. 2015, Microsoft COCO Captions: Data Collection and Evaluation Server (arXiv 1504.00325); "
    "cocodataset.org",
    licence="cc-by-4.0",
    licence_text="CC BY 4.0 for the annotations; the pictures have the licences that Flickr's users gave them.",
    columns={"image": "the picture, a path relative to this file", "answer": "a sentence"},
    files={
        "annotations": UpstreamFile(ARCHIVE, f"http://images.cocodataset.org/annotations/{ARCHIVE}"),
    },
    make_splits=make_splits,
    overlap=lambda row: [row["image"]],
    overlap_text="a picture",
    task_categories=("image-to-text",),
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
