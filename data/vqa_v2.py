"""Prepares VQA v2: questions about the pictures of COCO 2014, each answered by ten people.

    python data/vqa_v2.py --output_dir data/vqa_v2 --images_dir COCO [--input_dir DIR]

`COCO` holds the published folders `train2014` and `val2014`. The pictures stay there. The annotations of the training
split are read as a whole, which takes about 3 GB of memory.
"""

import argparse
from pathlib import Path

from llm_jepa.preparers.archive import member_bytes
from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.picture_files import annotation_records, by_id, picture_path
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record, checked_text
from llm_jepa.preparers.splits import Row, Rows, Splits, convert, rows_of_split
from llm_jepa.preparers.upstream import UpstreamFile

PUBLISHED_AT = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
VALIDATION_SHARE = 0.02


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    def records(kind: str, split: str, key: str, member: str):
        return annotation_records(member_bytes(inputs[f"{split} {kind}"].path, member), key, f"`{member}`")

    def rows(split: str) -> Rows:
        folder = f"{split}2014"
        questions = by_id(
            records("questions", split, "questions", f"v2_OpenEnded_mscoco_{folder}_questions.json"), "question_id"
        )

        def to_row(record: Record) -> Row:
            path = options.images_dir / folder / f"COCO_{folder}_{record.column('image_id'):012d}.jpg"
            return {
                "image": picture_path(path, options.output_dir),
                "question": questions[record.column("question_id")].text("question"),
                "answer": record.text("multiple_choice_answer"),
                "answers": [checked_text(one.get("answer"), "answers") for one in record.column("answers")],
                "kind": record.text("answer_type"),
            }

        return convert(records("annotations", split, "annotations", f"v2_mscoco_{folder}_annotations.json"), to_row)

    def train(split: str) -> Rows:
        return rows_of_split(rows("train"), {"validation": VALIDATION_SHARE}, split, key=lambda row: row["image"])

    return {"test": lambda: rows("val"), "validation": lambda: train("validation"), "train": lambda: train("train")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images_dir", type=Path, required=True, help="the directory of train2014 and val2014")


def published(kind: str, split: str) -> UpstreamFile:
    name = f"v2_{kind}_{split.capitalize()}_mscoco.zip"
    return UpstreamFile(name, f"{PUBLISHED_AT}/{name}")


DATA_SET = DataSet(
    name="vqa_v2",
    title="VQA v2",
    description="Questions about photographs. `answer` is the most frequent of ten people's answers. `test` is the "
    "published validation split: the published test split has no answers.",
    source="Goyal et al. 2017, Making the V in VQA Matter (arXiv 1612.00837); visualqa.org",
    licence="cc-by-4.0",
    licence_text="CC BY 4.0 for the annotations; the pictures have the licences that Flickr's users gave them.",
    columns={
        "image": "the picture, a path relative to this file",
        "question": "the question",
        "answer": "the most frequent answer",
        "answers": "the answers of ten people",
        "kind": "`yes/no`, `number` or `other`",
    },
    files={
        f"{split} {kind.lower()}": published(kind, split)
        for split in ("train", "val")
        for kind in ("Questions", "Annotations")
    },
    make_splits=make_splits,
    overlap=lambda row: [row["image"]],
    overlap_text="a picture",
    task_categories=("visual-question-answering",),
    add_arguments=add_arguments,
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
