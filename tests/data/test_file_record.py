"""A run goes on, or counts as finished, with the data files that it was trained on alone."""

import hashlib
import json
import os
import shutil
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import pytest

from llm_jepa.data.file_record import check_same_files, record_files
from llm_jepa.files.pieces import NUM_PIECES, PIECE_BYTES
from llm_jepa.recipe import parse_recipe
from llm_jepa.runs.record import ENVIRONMENT_FILE
from llm_jepa.train import train
from tests.evaluation.tiny_runs import save_recipe
from tests.tiny import PAIRS, save_tiny_model

ROWS = [json.dumps(pair) + "\n" for pair in PAIRS]
CHANGED = [ROWS[0].replace("number", "letter"), *ROWS[1:]]
"""As many bytes, other content."""
TIMES = count(1)
SAVING = {
    "output_dir": "out",
    "save_strategy": "steps",
    "save_steps": 1,
    "max_steps": 2,
    "bf16": False,
    "use_cpu": True,
}


@pytest.fixture
def place(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """A directory with a tiny model and data of two splits, in which a test works."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    write("data/train.jsonl", ROWS)
    write("data/test.jsonl", ROWS[:2])
    return tmp_path


def write(path: str, rows: list[str]) -> None:
    """Write a file at a time of its own, whatever the clock's resolution."""
    Path(path).write_text("".join(rows))
    os.utime(path, ns=(0, next(TIMES)))


def run(place: Path, **settings) -> object:
    return train(parse_recipe([str(save_recipe(place, **SAVING | settings))]))


@pytest.mark.parametrize("name", ["data", "data/train.jsonl"])
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_changed_file_is_named_and_nothing_is_written(place, name, is_complete):
    """Of a directory, or by itself; a copy of the same content passes, whenever it was written."""
    run(place, dataset_name=name)
    if not is_complete:
        Path("out/trainer_state.json").unlink()
    before = sorted((path, path.stat().st_mtime_ns) for path in Path("out").rglob("*"))
    write("data/train.jsonl", CHANGED)
    with pytest.raises(
        ValueError, match=r"`data/train\.jsonl` has other content than the run in `.*out` was trained on"
    ):
        run(place, dataset_name=name)
    assert sorted((path, path.stat().st_mtime_ns) for path in Path("out").rglob("*")) == before
    write("data/train.jsonl", ROWS)
    assert (run(place, dataset_name=name) is None) == is_complete


def test_files_are_compared_with_the_run_of_a_checkpoint_that_is_named(place):
    run(place, dataset_name="data")
    write("data/train.jsonl", CHANGED)
    with pytest.raises(ValueError, match="Leave `resume_from_checkpoint` out to start anew, or restore the file"):
        run(place, dataset_name="data", output_dir="other", resume_from_checkpoint="out/checkpoint-1")
    assert not Path("other").exists()


def test_only_files_that_training_reads_matter(place):
    """Not those of the test split, unless training evaluates; and of a complete run none need be there."""
    settings = {"dataset_name": "data", "output_dir": "out"}
    assert list(record_files(settings)) == ["train.jsonl"]
    assert list(record_files({**settings, "eval_strategy": "epoch"})) == ["train.jsonl", "test.jsonl"]
    assert record_files({"dataset_name": "team/rows"}) == {}
    Path("out").mkdir()
    check_same_files(Path("out"), settings, False, "")
    Path("out", ENVIRONMENT_FILE).write_text(json.dumps({"files": record_files(settings)}))
    write("data/test.jsonl", ROWS[:3])
    check_same_files(Path("out"), settings, False, "")
    write("data/train-1.jsonl", ROWS)
    with pytest.raises(ValueError, match=r"`data/train-1\.jsonl` is new, and no part of what the run"):
        check_same_files(Path("out"), settings, True, "")
    Path("data/train-1.jsonl").rename("data/test-1.jsonl")
    Path("data/train.jsonl").unlink()
    check_same_files(Path("out"), settings, True, "")
    with pytest.raises(ValueError, match=r"`train\.jsonl` is missing, and part of what the run"):
        check_same_files(Path("out"), settings, False, "")
    Path("out", ENVIRONMENT_FILE).write_text("{}")
    check_same_files(Path("out"), settings, False, "")


def test_pictures_are_recorded_by_names_and_sizes(place):
    """Those that training reads: frames of a video too, and none of the test split. A moved copy is the same."""
    rows = [{"image": "a.png"}, {"image": "b.png"}, {"image": "a.png"}]
    sizes = {"a.png": 10, "b.png": 20, "c.png": 30}
    write("data/train.jsonl", [json.dumps(row) + "\n" for row in rows])
    write("data/test.jsonl", [json.dumps({"image": "c.png"}) + "\n"])
    for name, size in sizes.items():
        Path("data", name).write_bytes(bytes(size))
    settings = {"dataset_name": "data", "output_dir": "out", "vision_encoder": "any"}
    recorded = record_files(settings)
    listed = hashlib.sha256(b"a.png\x0010\nb.png\x0020\n").hexdigest()
    assert recorded["pictures"] == {"pictures": 2, "bytes": 30, "missing": 0, "sha256": listed}
    assert record_files({**settings, "eval_strategy": "epoch"})["pictures"]["bytes"] == 60
    assert "pictures" not in record_files({**settings, "inputs": "question"})
    shutil.copytree("data", "moved")
    assert record_files({**settings, "dataset_name": str(place / "moved")}) == recorded
    write("moved/train.jsonl", [json.dumps({"image": [str(place / "moved/a.png"), "b.png"]}) + "\n"])
    assert record_files({**settings, "dataset_name": "moved/train.jsonl"})["pictures"] == recorded["pictures"]


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_changed_picture_is_refused(place, is_complete):
    """Under its name, with another size. One that is missing matters while there is something to train."""
    write("data/train.jsonl", [json.dumps({"image": "a.png"}) + "\n"])
    Path("data/a.png").write_bytes(bytes(10))
    settings = {"dataset_name": "data", "output_dir": "out", "vision_encoder": "any"}
    Path("out").mkdir()
    Path("out", ENVIRONMENT_FILE).write_text(json.dumps({"files": record_files(settings)}))
    os.utime("data/a.png", ns=(0, next(TIMES)))
    check_same_files(Path("out"), settings, is_complete, "")
    Path("data/a.png").write_bytes(bytes(11))
    refused = pytest.raises(ValueError, match="The pictures of `data` have other names or sizes than those")
    with refused:
        check_same_files(Path("out"), settings, is_complete, "")
    Path("data/a.png").unlink()
    with nullcontext() if is_complete else refused:
        check_same_files(Path("out"), settings, is_complete, "")


@pytest.mark.parametrize(
    ("path", "name", "setting"),
    [
        ("excluded.json", "excluded_rows", {"excluded_rows": "excluded.json"}),
        ("chatml.jinja", "chat_template_path", {"chat_template_path": "chatml.jinja"}),
        ("own.py", "jepa_objective Mine", {"jepa_objective": ["pair", "own.py:Mine"]}),
    ],
)
def test_files_that_settings_name_are_recorded(path, name, setting, place):
    """A record of an earlier version, which lacks them, passes; a template that is a model has no file."""
    settings = {"dataset_name": "data", "output_dir": "out", **setting}
    Path(path).write_text("[1]")
    Path("out").mkdir()
    recorded = record_files(settings)
    assert recorded.keys() == {"train.jsonl", name}
    Path("out", ENVIRONMENT_FILE).write_text(json.dumps({"files": recorded}))
    check_same_files(Path("out"), settings, False, "")
    Path(path).write_text("[1, 2]")  # another size
    with pytest.raises(ValueError, match=f"`{path}` has other content than the run in `out` was trained on"):
        check_same_files(Path("out"), settings, True, "")
    del recorded[name]
    Path("out", ENVIRONMENT_FILE).write_text(json.dumps({"files": recorded}))
    check_same_files(Path("out"), settings, False, "")
    assert "chat_template_path" not in record_files({**settings, "chat_template_path": "team/model"})


def test_a_large_file_is_read_in_pieces(place):
    """A hole of 8 GiB: its first and last byte are seen, one between the first two pieces is not."""
    size = 8 * 2**30

    def digest(*places: int) -> str:
        with open("rows.jsonl", "wb") as file:
            file.truncate(size)
            for offset in places:
                file.seek(offset)
                file.write(b"a")
        return record_files({"dataset_name": "rows.jsonl"})["rows.jsonl"]["sha256"]

    second = (size - PIECE_BYTES) // (NUM_PIECES - 1)
    plain = digest()
    assert digest(0) != plain != digest(size - 1)
    assert digest(second - 1) == plain != digest(second)


def test_of_many_files_each_has_fewer_pieces(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(130):
        (tmp_path / "data" / f"train-{number:05d}-of-00130.jsonl").write_text(ROWS[0])
    recorded = record_files({"dataset_name": str(tmp_path / "data")})
    assert {state["pieces"] for state in recorded.values()} == {4096 // 130}
