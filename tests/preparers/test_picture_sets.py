"""COCO captions, VQA v2 and MSR-VTT, from made-up rows in the published forms."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from llm_jepa.preparers.picture_files import by_id
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import IncompleteRecordError
from llm_jepa.vision.picture_check import check_pictures
from tests.preparers.prepared_sets import DATA, read
from tests.preparers.scripts import load_script

SCRIPTS = {name: load_script(DATA / f"{name}.py") for name in ("coco_captions", "vqa_v2", "msr_vtt")}
NUM_TRAIN = 60


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


def write_zip(path: Path, member: str, content: dict) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, json.dumps(content))


def coco_captions(directory: Path) -> list[str]:
    """Two captions a picture; `val2017` has one picture."""
    for folder, ids in (("train2017", range(NUM_TRAIN)), ("val2017", [99])):
        for number in ids:
            write_picture(directory / "coco" / folder / f"{number:012d}.jpg")
        content = {
            "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in ids],
            "annotations": [
                {"image_id": number, "id": 10 * number + k, "caption": f"Caption {k} of {number}. \n"}
                for number in ids
                for k in range(2)
            ],
        }
        write_zip(directory / "annotations_trainval2017.zip", f"annotations/captions_{folder}.json", content)
    return ["--input_dir", str(directory), "--images_dir", str(directory / "coco")]


def vqa_v2(directory: Path) -> list[str]:
    for split, ids in (("train", range(NUM_TRAIN)), ("val", [99])):
        folder = f"{split}2014"
        for number in ids:
            write_picture(directory / "coco" / folder / f"COCO_{folder}_{number:012d}.jpg")
        questions = [{"image_id": n, "question_id": 7 * n, "question": f"How many {n}?"} for n in ids]
        answers = [
            {
                "question_id": 7 * n,
                "image_id": n,
                "multiple_choice_answer": "2",
                "answers": [{"answer": one, "answer_id": i} for i, one in enumerate(["2", "two"])],
                "answer_type": "number",
            }
            for n in reversed(ids)
        ]
        name = split.capitalize()
        write_zip(
            directory / f"v2_Questions_{name}_mscoco.zip",
            f"v2_OpenEnded_mscoco_{folder}_questions.json",
            {"questions": questions},
        )
        write_zip(
            directory / f"v2_Annotations_{name}_mscoco.zip",
            f"v2_mscoco_{folder}_annotations.json",
            {"annotations": answers},
        )
    return ["--input_dir", str(directory), "--images_dir", str(directory / "coco")]


def msr_vtt(directory: Path) -> list[str]:
    splits = {"video0": "train", "video1": "validate", "video2": "test"}
    for video in splits:
        for frame in (2, 1):
            write_picture(directory / "frames" / video / f"{frame:04d}.jpg")
    content = {
        "videos": [{"video_id": video, "split": split} for video, split in splits.items()],
        "sentences": [{"video_id": video, "sen_id": i, "caption": f"of {video}"} for i, video in enumerate(splits)],
    }
    (directory / "MSRVTT_data.json").write_text(json.dumps(content))
    return ["--annotations", str(directory / "MSRVTT_data.json"), "--frames_dir", str(directory / "frames")]


WRITERS = {writer.__name__: writer for writer in (coco_captions, vqa_v2, msr_vtt)}


def prepare(name: str, directory: Path, *options: str) -> tuple[Path, str]:
    own = WRITERS[name](directory)
    output = directory / "out" / name
    return output, "\n".join(run(SCRIPTS[name].DATA_SET, ["--output_dir", str(output), *own, *options]))


@pytest.mark.parametrize("name", WRITERS)
def test_rows_have_the_columns_of_the_card_and_pictures_that_are_there(name, tmp_path):
    output, _ = prepare(name, tmp_path)
    for split in ("train", "validation", "test"):
        rows = read(output, split)
        assert rows
        assert all(list(row) == list(SCRIPTS[name].DATA_SET.columns) for row in rows)
        assert check_pictures([row["image"] for row in rows], output)


def test_coco_has_a_row_for_each_caption_and_a_picture_in_one_split(tmp_path):
    output, _ = prepare("coco_captions", tmp_path)
    test = read(output, "test")
    assert [row["answer"] for row in test] == ["Caption 0 of 99.", "Caption 1 of 99."]
    assert test[0]["image"] == "../../coco/val2017/000000000099.jpg"
    pictures = {split: {row["image"] for row in read(output, split)} for split in ("train", "validation")}
    assert not pictures["train"] & pictures["validation"]
    assert len(pictures["train"] | pictures["validation"]) == NUM_TRAIN


def test_a_question_of_vqa_meets_its_answers_by_its_id(tmp_path):
    output, _ = prepare("vqa_v2", tmp_path)
    (row,) = read(output, "test")
    assert row == {
        "image": "../../coco/val2014/COCO_val2014_000000000099.jpg",
        "question": "How many 99?",
        "answer": "2",
        "answers": ["2", "two"],
        "kind": "number",
    }
    for row in read(output, "train"):
        assert f"{int(row['question'].split()[-1][:-1]):012d}" in row["image"]


def test_frames_of_msr_vtt_are_in_order_and_splits_as_published(tmp_path):
    output, _ = prepare("msr_vtt", tmp_path)
    for split, video in (("train", "video0"), ("validation", "video1"), ("test", "video2")):
        (row,) = read(output, split)
        assert row["video"] == video
        assert [Path(path).name for path in row["image"]] == ["0001.jpg", "0002.jpg"]


def test_an_annotation_of_a_picture_that_is_not_listed_is_incomplete():
    with pytest.raises(IncompleteRecordError, match="there is no record with the id 7"):
        by_id(iter(()), "id")[7]


def test_a_missing_picture_ends_the_run_or_is_left_out_and_counted(tmp_path, capsys):
    own = coco_captions(tmp_path)
    (tmp_path / "coco" / "train2017" / "000000000005.jpg").unlink()
    data_set, output = SCRIPTS["coco_captions"].DATA_SET, tmp_path / "out"
    with pytest.raises(SystemExit):
        run(data_set, ["--output_dir", str(output), *own])
    assert "`annotations` 11: incomplete: there is no picture" in capsys.readouterr().err
    printed = "\n".join(run(data_set, ["--output_dir", str(output), *own, "--skip_incomplete"]))
    assert "2 incomplete" in printed


def test_annotations_of_another_form_are_refused(tmp_path, capsys):
    own = msr_vtt(tmp_path)
    for content, message in (("[]", "an object with a list of objects `videos`"), ("{", "is not JSON")):
        (tmp_path / "MSRVTT_data.json").write_text(content)
        with pytest.raises(SystemExit):
            run(SCRIPTS["msr_vtt"].DATA_SET, ["--output_dir", str(tmp_path / "out"), *own])
        assert message in capsys.readouterr().err
