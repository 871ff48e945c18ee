"""Prepares MSR-VTT: videos as frames, each with twenty sentences.

    python data/msr_vtt.py --output_dir data/msr_vtt --annotations MSRVTT_data.json --frames_dir FRAMES

`FRAMES` holds a folder of pictures for each video, named by its id, such as those of
`ffmpeg -i video0.mp4 -vf fps=1 FRAMES/video0/%04d.jpg`. The frames stay there.
"""

import argparse
from pathlib import Path

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.picture_files import annotation_records, by_id, frame_paths
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.preparers.splits import Row, Rows, Splits, convert
from llm_jepa.preparers.upstream import own_input

SPLITS = {"test": "test", "validate": "validation", "train": "train"}
"""Published name of a split -> ours."""


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    path = inputs["annotations"].path

    def rows(split: str) -> Rows:
        document = path.read_bytes()
        videos = by_id(annotation_records(document, "videos", f"`{path}`"), "video_id")

        def to_row(record: Record) -> Row:
            video = record.text("video_id")
            return {
                "image": frame_paths(options.frames_dir / video, options.output_dir),
                "answer": record.text("caption"),
                "video": video,
            }

        of_split = (
            record
            for record in annotation_records(document, "sentences", f"`{path}`")
            if videos[record.column("video_id")].text("split") == split
        )
        return convert(of_split, to_row)

    return {ours: lambda published=published: rows(published) for published, ours in SPLITS.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=Path, required=True, help="MSRVTT_data.json, with all splits")
    parser.add_argument("--frames_dir", type=Path, required=True, help="a folder of pictures for each video")


DATA_SET = DataSet(
    name="msr_vtt",
    title="MSR-VTT",
    description="Web videos as lists of frames, each with twenty sentences.",
    source="Xu et al. 2016, MSR-VTT: A Large Video Description Dataset for Bridging Video and Language (CVPR)",
    licence="other",
    licence_text="the videos are of their uploaders; Microsoft published the sentences for research.",
    columns={
        "image": "the frames, a list of paths relative to this file",
        "answer": "a sentence",
        "video": "the id of the video",
    },
    make_splits=make_splits,
    overlap=lambda row: [row["video"]],
    overlap_text="a video",
    task_categories=("video-text-to-text",),
    add_arguments=add_arguments,
    find_own_inputs=lambda options: {"annotations": own_input(options.annotations)},
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
