"""The splits that local data are said to have are those that load."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from llm_jepa.data.loading import load_split
from llm_jepa.data.local_splits import files_by_split, names_in_split, splits_without
from llm_jepa.data.source import DataSource

CARD = "---\nconfigs:\n- config_name: mine\n  data_files:\n  - split: held_out\n    path: later.jsonl\n---\n"


def file(path: Path) -> DataSource:
    path.write_text(json.dumps({"text": path.stem}) + "\n")
    return DataSource(str(path))


def directory(path: Path) -> DataSource:
    for name in ("train", "my_dev", "test"):
        file(path / f"{name}.jsonl")
    return DataSource(str(path))


def directory_with_card(path: Path) -> DataSource:
    file(path / "later.jsonl")
    (path / "README.md").write_text(CARD)
    return DataSource(str(path), "mine")


def saved(path: Path) -> DataSource:
    Dataset.from_dict({"text": ["train"]}).save_to_disk(path)
    return DataSource(str(path))


def saved_splits(path: Path) -> DataSource:
    DatasetDict({name: Dataset.from_dict({"text": [name]}) for name in ("train", "later")}).save_to_disk(path)
    return DataSource(str(path))


@pytest.mark.parametrize(
    ("make", "files"),
    [
        (lambda path: file(path / "rows.jsonl"), {"train": ["rows.jsonl"]}),
        (directory, {"train": ["train.jsonl"], "validation": ["my_dev.jsonl"], "test": ["test.jsonl"]}),
        (directory_with_card, {"held_out": ["later.jsonl"]}),
        (saved, {"train": ["data-00000-of-00001.arrow"]}),
        (saved_splits, {split: [f"{split}/data-00000-of-00001.arrow"] for split in ("train", "later")}),
    ],
)
def test_every_split_that_is_known_loads_and_no_other(tmp_path, monkeypatch, make, files):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "here").mkdir()
    source = make(tmp_path / "here")
    found = files_by_split(source)
    assert {
        split: [str(path.relative_to(tmp_path / "here")) for path in paths] for split, paths in found.items()
    } == files
    for split in files:
        load_split(source, split)
        assert splits_without(source, f"{split}[:1]") == []
    assert splits_without(source, "nowhere") == list(files)
    with pytest.raises(ValueError, match="nowhere"):
        load_split(source, "nowhere")


def test_nothing_is_known_of_the_hub_or_of_what_does_not_load(tmp_path):
    assert names_in_split("train[:90%] + dev") == ["train", "dev"]
    for name in ("team/rows", str(tmp_path / "absent"), str(tmp_path), None):
        assert splits_without(DataSource(name), "nowhere") == []


def test_caches_beside_saved_files_are_no_data(tmp_path):
    source = saved(tmp_path / "here")
    before = files_by_split(source)
    load_split(source, "train").map(lambda row: {"length": len(row["text"])})
    assert len([*(tmp_path / "here").glob("*.arrow")]) == 2
    assert files_by_split(source) == before
