"""Evaluated rows that the run trained on are counted and said, wherever that can be known."""

import json
from pathlib import Path

import pytest

from llm_jepa.cli import main
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.rows_trained_on import count_rows_trained_on
from llm_jepa.recipe import parse_recipe
from tests.evaluation.tiny_runs import save_recipe
from tests.tiny import PAIRS, tiny_tokenizer

NEW = {"source": PAIRS[0]["source"], "target": "another answer"}
SPACED = {"source": f" {PAIRS[5]['source']}\n", "target": PAIRS[5]["target"]}


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_scores_of_the_tuned_model_say_how_many_of_its_rows_were_trained_on(trained, tmp_path, capsys):
    """A row with the same source and another target is another row; spaces make none."""
    held_out = write(tmp_path / "held_out.jsonl", [NEW, SPACED, PAIRS[0]])
    command = ["eval", str(trained), "--dataset_name", held_out, "--dataset_test_split", "train"]
    limits = ["--max_new_tokens", "1", "--predictions", str(tmp_path)]
    assert main([*command, *limits]) == 0
    said = "2 of the 3 evaluated rows are in the train split of the run in"
    assert said in (printed := capsys.readouterr().err)
    assert "(the first is row 1): a score on rows that were trained on proves nothing." in printed
    scores = {name: json.loads((tmp_path / f"scores-{name}.json").read_text()) for name in ("base", "tuned")}
    assert scores["tuned"]["rows_trained_on"] == 2
    assert "rows_trained_on" not in scores["base"]
    assert main([*command, *limits, "--checkpoints", "base"]) == 0
    assert "train split" not in capsys.readouterr().err


@pytest.fixture
def count(tmp_path, monkeypatch):
    """How many of three rows, two of them trained on, a run with some settings is found to have trained on."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "train.jsonl", PAIRS)
    held_out = write(tmp_path / "held_out.jsonl", [NEW, SPACED, PAIRS[0]])
    evaluated = save_recipe(tmp_path, dataset_name=held_out, dataset_test_split="train")

    def count(**settings) -> int | None:
        (tmp_path / "run").mkdir(exist_ok=True)
        path = save_recipe(tmp_path / "run", **{"dataset_name": str(tmp_path / "train.jsonl")} | settings)
        assert path == tmp_path / "run" / "recipe.yaml"
        recipe = parse_recipe([str(evaluated)])
        return count_rows_trained_on(recipe, load_rows(recipe, tiny_tokenizer()))

    return count


def test_rows_are_those_that_the_run_kept(count, tmp_path):
    assert count() == 2
    assert count(dataset_train_split="train[1:]") == 1
    (tmp_path / "excluded.json").write_text("[0, 5]")
    assert count(excluded_rows="excluded.json") == 0


def test_what_cannot_be_known_is_not_counted(count, tmp_path, caplog):
    """A stream, plain text, other data on the Hub; data that are gone are said to be."""
    assert count(dataset_streaming=True) is None
    write(tmp_path / "text.jsonl", [{"text": "a"}])
    text = {"source_column": None, "target_column": None, "jepa_weight": 0}
    for settings in ({**text, "dataset_name": "text.jsonl"}, {"dataset_name": "team/rows"}):
        assert count(**settings) is None
    assert caplog.messages == []
    assert count(dataset_train_split="nowhere") is None
    assert caplog.messages[0].startswith("Whether the run trained on rows that are evaluated is not known: Split")
