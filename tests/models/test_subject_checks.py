"""A subject of `llm-jepa eval` that is not there is named, before any setting is missed."""

import pytest

from llm_jepa.models.subject_checks import check_subject


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("outputs/vl/nothere", []),
        ("outputs/vl/nothere", ["--dataset_name", "rows.jsonl"]),
        ("outputs/nothere", []),
        ("empty", ["--dataset_name", "rows.jsonl"]),
    ],
)
def test_a_subject_that_is_not_there_is_named(name, overrides, tmp_path, monkeypatch):
    """A path is none of the Hub's; what may be a Hub id needs data; an empty directory is no model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"There is no run, adapter or model in `{name}`"):
        check_subject(name, overrides, None)


def test_a_hub_id_with_data_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_subject("team/model", ["--dataset_name", "rows.jsonl"], None)
