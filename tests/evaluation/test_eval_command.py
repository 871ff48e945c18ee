"""`llm-jepa eval`: what it prints and writes, which subjects it takes, which mistakes it names."""

import json
import re
import shutil

import pytest
from datasets import Dataset

from llm_jepa.cli import main
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.results import Prediction, write_predictions
from llm_jepa.recipe import parse_recipe
from tests.evaluation.tiny_runs import LIMIT, checkpoints_of, save_recipe
from tests.tiny import save_tiny_model, tiny_tokenizer


def test_predictions_are_one_json_object_a_line(tmp_path):
    predictions = [Prediction(3, "source", "gold", "two\nlines ≠", True), Prediction(9, "b", "c", "", False)]
    write_predictions(predictions, tmp_path / "new" / "predictions.jsonl")
    lines = (tmp_path / "new" / "predictions.jsonl").read_text(encoding="utf-8").split("\n")
    assert [Prediction(**json.loads(line)) for line in lines[:-1]] == predictions


def test_command_prints_one_table_and_writes_predictions(trained, tmp_path, capsys, monkeypatch):
    """A table that fits a pipe, or a terminal of 80 characters, with all seven scores of a regex.

    One of the two golds is no regex. It is left out of the scores of a regex and not of the others.
    """
    monkeypatch.setenv("COLUMNS", "80")
    status = main([
        *("eval", str(trained), "--max_rows", "2", "--max_new_tokens", str(LIMIT)),
        *("--predictions", str(tmp_path), "--eval_batch_size", "2", "--seed", "7", "--task", "regex"),
    ])  # fmt: skip
    assert status == 0
    printed = capsys.readouterr().out
    lines = [line.replace("┃", "│").split("│")[1:-1] for line in printed.splitlines() if line[:1] in "┃│"]
    table = {name.strip(): [cell.strip() for cell in cells] for name, *cells in lines}
    assert table[""] == ["base", "tuned"]
    assert list(table)[1:] == [
        "strict",
        "prefix",
        "contains",
        "stop rate",
        "cap rate",
        "equivalent",
        "nontrivial",
        "rows",
        "left out",
    ]
    base = [table[name][0] for name in ("strict", "prefix", "contains", "stop rate", "cap rate", "rows")]
    all_of_2, none_of_2 = "100.0 % (34.2 to 100.0)", "0.0 % (0.0 to 65.8)"
    assert base == [all_of_2, all_of_2, all_of_2, none_of_2, all_of_2, "2"]
    assert table["left out"] == ["1", "1"]
    assert f"tuned: {trained.parent / 'run'}" in printed
    for checkpoint in ("base", "tuned"):
        left_out = "left out of equivalent, equivalent_nontrivial: the gold regex cannot be read (1 of 2 rows)"
        assert f"{checkpoint}: {left_out}" in printed
        lines = (tmp_path / f"predictions-{checkpoint}.jsonl").read_text().splitlines()
        assert [json.loads(line)["row_index"] for line in lines] == [4, 7]
        scores = json.loads((tmp_path / f"scores-{checkpoint}.json").read_text())
        assert (scores["rows"], scores["left_out"]) == (2, {"the gold regex cannot be read": 1})
        assert scores["scores"]["equivalent"]["count"] == 1
    assert scores["scores"]["stopped"]["interval"] == pytest.approx([0, 0.658], abs=1e-3)
    assert not list(tmp_path.glob("*.partial*"))


def test_scores_of_more_rows_are_not_replaced_in_silence(trained, tmp_path, capsys):
    base = ["eval", str(trained), "--checkpoints", "base", "--max_new_tokens", str(LIMIT), "--predictions"]
    assert main([*base, str(tmp_path)]) == 0
    assert "replace" not in capsys.readouterr().err
    assert main([*base, str(tmp_path), "--max_rows", "3"]) == 0
    printed = capsys.readouterr()
    assert "base: the scores of 3 rows (test) replace those of 8 rows (test, " in printed.err
    assert "To keep them, name another directory" in printed.err
    assert main([*base, str(tmp_path)]) == 0
    assert "replace" not in capsys.readouterr().err


def test_scores_of_other_prompts_and_precision_are_not_replaced_in_silence(trained, tmp_path, capsys):
    """Those of a file that does not say so, of an earlier version, may be of the same."""
    base = ["eval", str(trained), "--checkpoints", "base", "--max_new_tokens", "1", "--predictions", str(tmp_path)]

    def scores() -> dict:
        return json.loads((tmp_path / "scores-base.json").read_text())

    assert main(base) == 0
    first = scores()
    assert first["precision"] == "float32"
    assert main([*base, "--system_prompt", "Answer in French.", "--bf16", "true"]) == 0
    assert "other prompts and precision. To keep them" in capsys.readouterr().err
    second = scores()
    assert (second["rows_digest"], second["precision"]) == (first["rows_digest"], "bfloat16")
    assert second["prompts_digest"] != first["prompts_digest"]
    older = {key: value for key, value in second.items() if key not in ("prompts_digest", "precision")}
    (tmp_path / "scores-base.json").write_text(json.dumps(older))
    assert main(base) == 0
    assert "replace" not in capsys.readouterr().err
    assert scores() == first | {"date": scores()["date"]}


@pytest.mark.parametrize("subject", ["run", "adapter", "model"])
def test_a_run_an_adapter_and_a_model_are_evaluated_as_the_recipe_is(subject, trained, tmp_path, capsys):
    """A run has its recipe. An adapter has its base; data and views are named on the command line."""
    run = trained.parent / "run"
    limits = ["--max_rows", "4", "--max_new_tokens", str(LIMIT), "--predictions"]
    assert main(["eval", str(trained), *limits, str(tmp_path / "recipe")]) == 0
    columns = ["--source_column", "source", "--target_column", "target", "--bf16", "false"]
    data = ["--dataset_name", str(trained.parent / "data"), *columns]
    if subject == "run":
        command, checkpoints = [str(run)], ["base", "tuned"]
    elif subject == "adapter":
        adapter = tmp_path / "adapter"
        shutil.copytree(run, adapter, ignore=shutil.ignore_patterns("recipe.yaml"))
        command, checkpoints = [str(adapter), *data], ["base", "tuned"]
    else:
        command, checkpoints = [str(trained.parent / "model"), *data], ["base"]
    assert main(["eval", *command, *limits, str(tmp_path / subject)]) == 0
    for checkpoint in checkpoints:
        name = f"predictions-{checkpoint}.jsonl"
        assert (tmp_path / subject / name).read_text() == (tmp_path / "recipe" / name).read_text()


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        ([], None),
        (["--seed", "7", "--task", "qa", "--view_pairs", "null", "--chat_template_kwargs", "null"], None),
        (["--system_prompt", "Write a regex."], "`system_prompt` is None there and 'Write a regex.' here."),
        (["--chat_template_kwargs", '{"a": 1}'], "`chat_template_kwargs` is None there and {'a': 1} here."),
        (["--target_column", "{{ target }}!"], "`target_column` is 'target' there and '{{ target }}!' here."),
        (["--dataset_name", "{other}", "--target_column", "answer"], None),
        (
            ["--dataset_name", "{other}", "--target_column", "answer", "--system_prompt", "A."],
            "is None there and 'A.'",
        ),
    ],
)
def test_other_prompts_than_those_of_the_run_are_said(overrides, warning, trained, tmp_path, capsys):
    """Not settings that shape no prompt, defaults written out, or the columns of other data; nor of the base alone."""
    other = tmp_path / "other"
    Dataset.from_list([{"source": "a", "answer": "b"}]).to_json(other / "test.jsonl")
    command = ["eval", str(trained), "--max_rows", "1", "--max_new_tokens", "1", "--predictions", str(tmp_path)]
    command += [word.replace("{other}", str(other)) for word in overrides]
    assert main(command) == 0
    printed = capsys.readouterr().err
    said = f"The run in `{trained.parent / 'run'}` was trained on other prompts than it is given now: "
    assert (said in printed) == (warning is not None)
    assert warning is None or warning in printed
    assert main([*command, "--checkpoints", "base"]) == 0
    assert said not in capsys.readouterr().err


def test_a_model_without_data_is_told_what_is_missing(trained, capsys):
    with pytest.raises(SystemExit):
        main(["eval", str(trained.parent / "model")])
    assert "`dataset_name` must be given" in capsys.readouterr().err


def test_the_base_alone_is_evaluated_before_training_and_leaves_no_output_directory(trained, tmp_path, capsys):
    output_dir = tmp_path / "run"
    main(["eval", str(trained), "--checkpoints", "base", "--max_rows", "1", "--output_dir", str(output_dir)])
    assert "base" in capsys.readouterr().out
    assert not output_dir.exists()


def test_bad_input_is_named(trained, tmp_path):
    path = str(trained)
    recipe = parse_recipe([path])
    for wanted in (["tuned", "tunde"], ["base", "base"], [""]):
        with pytest.raises(ValueError, match="allowed are base, tuned, each once"):
            checkpoints_of(recipe, wanted)
    with pytest.raises(ValueError, match="holds no trained model or adapter"):
        checkpoints_of(parse_recipe([path, "--output_dir", str(tmp_path)]))
    with pytest.raises(ValueError, match="was trained from"):
        checkpoints_of(parse_recipe([path, "--model_name_or_path", "another"]))
    scratch = parse_recipe([str(save_recipe(tmp_path, output_dir=str(recipe.output_dir), from_scratch=True))])
    with pytest.raises(ValueError, match="there is no base"):
        checkpoints_of(scratch, ["base"])
    with pytest.raises(ValueError, match="`max_rows` is 0"):
        load_rows(recipe, tiny_tokenizer(), max_rows=0)
    Dataset.from_list([{"input_ids": [1], "labels": [1]}]).to_json(tmp_path / "ids.jsonl")
    with pytest.raises(ValueError, match="Pre-tokenised rows cannot be evaluated"):
        load_rows(
            parse_recipe([path, "--dataset_name", str(tmp_path / "ids.jsonl"), "--dataset_test_split", "train"]),
            tiny_tokenizer(),
        )


def test_options_of_vllm_are_refused_without_it(trained, capsys):
    with pytest.raises(SystemExit):
        main(["eval", str(trained), "--vllm_options", '{"seed": 1}'])
    assert (
        "`vllm_options` have an effect only with the backend 'vllm'; it is 'transformers'" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main(["eval", str(trained), "--backend", "vllm", "--vllm_options", "seed"])
    assert "invalid json_object value: 'seed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["a", " "], "Row 1: `choices_column: choices` holds"),
        ("ab", "Row 1: `choices_column: choices` holds 'ab'"),
        (["a", "b"], "Row 1: the target 'dog' is not one of the choices"),
    ],
)
def test_choices_are_checked_before_anything_is_generated(choices, message, tmp_path):
    rows = [{"source": "s", "target": "dog", "choices": ["dog", "cat"]}, {"source": "s", "target": "dog"}]
    if isinstance(choices, str):
        rows[0]["choices"] = "ab"
        message = message.replace("Row 1", "Row 0")
    rows[1]["choices"] = choices
    save_tiny_model(tmp_path / "model")
    Dataset.from_list(rows).to_json(tmp_path / "data" / "test.jsonl")
    recipe = parse_recipe([str(save_recipe(tmp_path, task="choice", choices_column="choices"))])
    with pytest.raises(ValueError, match=re.escape(message)):
        load_rows(recipe, tiny_tokenizer())
