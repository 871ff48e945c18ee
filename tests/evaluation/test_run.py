"""Base and tuned model are scored on the same rows, whatever interrupts it."""

import copy
import itertools
import logging
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from llm_jepa.cli import main
from llm_jepa.evaluation import likelihood, run
from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.evaluation.held_out_rows import HeldOutRow, load_rows
from llm_jepa.evaluation.results import Prediction
from llm_jepa.evaluation.run import evaluate, score
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.merging import merge
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import parse_recipe
from llm_jepa.scoring.tasks import Rate
from llm_jepa.train import train
from tests.evaluation.tiny_runs import CHATS, LIMIT, checkpoints_of, save_recipe, written_by
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer


def results_of(recipe, checkpoints, **settings):
    tokenizer = load_run_tokenizer(recipe)
    rows = load_rows(recipe, tokenizer, settings.pop("max_rows", None))
    return list(evaluate(recipe, checkpoints, tokenizer, rows, LIMIT, batch_size=3, **settings))


def test_base_and_adapter_are_scored_on_the_same_rows(trained):
    recipe = parse_recipe([str(trained)])
    finished = []
    base, tuned = results_of(
        recipe, checkpoints_of(recipe), progress=lambda checkpoint, rows: finished.append((checkpoint, rows))
    )
    assert (base.checkpoint, base.location) == ("base", recipe.settings["model_name_or_path"])
    assert [base.scores[name] for name in ("strict", "stopped", "capped")] == [Rate(8, 8), Rate(0, 8), Rate(8, 8)]
    assert all(row.values["strict"] for row in base.rows)

    adapter = PeftModel.from_pretrained(tiny_llama(seed=3), recipe.output_dir)
    expected = written_by(adapter)
    assert (tuned.checkpoint, tuned.location) == ("tuned", str(recipe.output_dir))
    assert [row.prediction for row in tuned.predictions] == [completion.text for completion in expected]
    assert [row.stopped for row in tuned.predictions] == [completion.stopped for completion in expected]
    assert tuned.scores["strict"].hits < 8
    assert [row.gold for row in tuned.predictions] == [row.gold for row in base.predictions]
    assert [row.source for row in tuned.predictions] == [pair["source"] for pair in PAIRS]
    assert finished == [(checkpoint, rows) for checkpoint in ("base", "tuned") for rows in (0, 3, 3, 2)]


def test_an_arm_alone_gives_what_it_gives_beside_the_other(trained):
    recipe = parse_recipe([str(trained)])
    both = results_of(recipe, ["base", "tuned"])
    assert results_of(recipe, ["base"]) + results_of(recipe, ["tuned"]) == both


def test_an_interrupted_evaluation_goes_on_where_it_stopped(trained, tmp_path):
    """Each batch is stored at once; a truncated last line costs one batch; other limits start from the beginning."""
    recipe = parse_recipe([str(trained)])
    (whole,) = results_of(recipe, ["tuned"])

    class StopHereError(Exception):
        pass

    def interrupt(checkpoint, num_rows):
        calls.append(num_rows)
        if len(calls) == 3:
            raise StopHereError

    calls = []
    with pytest.raises(StopHereError):
        results_of(recipe, ["tuned"], progress=interrupt, directory=tmp_path)
    partial = tmp_path / "predictions-tuned.partial.jsonl"
    assert len(partial.read_text().splitlines()) == 1 + 6
    torn = partial.read_text()[:-5]

    for text, known in ((partial.read_text(), 6), (torn, 5)):
        partial.write_text(text)
        finished = []
        (resumed,) = results_of(
            recipe, ["tuned"], progress=lambda checkpoint, rows, seen=finished: seen.append(rows), directory=tmp_path
        )
        assert resumed == whole
        assert finished == ([known, 2] if known == 6 else [known, 3, 2])
        assert partial.is_file(), "the caller discards it when the scores are written"
    partial.write_text(torn)
    other = parse_recipe([str(trained), "--seed", "7"])
    finished = []
    results_of(other, ["tuned"], progress=lambda checkpoint, rows: finished.append(rows), directory=tmp_path)
    assert finished == [0, 3, 3, 2]


class KilledError(Exception):
    pass


def killed_after(number: int, function):
    """The function, which raises when it is called once more."""
    calls = itertools.count(1)

    def call(*args, **kwargs):
        if next(calls) > number:
            raise KilledError
        return function(*args, **kwargs)

    return call


def test_a_kill_while_scoring_loses_no_completion(trained, tmp_path, monkeypatch):
    recipe = parse_recipe([str(trained)])
    with monkeypatch.context() as patch:
        patch.setattr(run, "score_row", killed_after(4, run.score_row))
        with pytest.raises(KilledError):
            results_of(recipe, ["base"], directory=tmp_path)
    finished = []
    results_of(recipe, ["base"], progress=lambda checkpoint, rows: finished.append(rows), directory=tmp_path)
    assert finished == [8]


def test_a_kill_among_the_choices_loses_no_likelihood(trained, tmp_path, monkeypatch):
    """Eight rows of two choices: six batches of three."""
    rows = [pair | {"choices": [pair["target"], "(.*)"]} for pair in PAIRS]
    Dataset.from_list(rows).to_json(tmp_path / "data" / "test.jsonl")
    choice = ["--task", "choice", "--choices_column", "choices", "--dataset_name", str(tmp_path / "data")]
    recipe = parse_recipe([str(trained), *choice])
    whole = results_of(recipe, ["base"])
    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "sequence_log_probs", killed_after(4, likelihood.sequence_log_probs))
        with pytest.raises(KilledError):
            results_of(recipe, ["base"], directory=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "sequence_log_probs", killed_after(2, likelihood.sequence_log_probs))
        assert results_of(recipe, ["base"], directory=tmp_path) == whole
    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "sequence_log_probs", killed_after(0, likelihood.sequence_log_probs))
        assert results_of(recipe, ["base"], directory=tmp_path) == whole


def test_golds_that_are_all_bad_are_refused_before_a_model_is_loaded(trained, tmp_path, capsys):
    """In one line, and with a model that is not there."""
    sql = ["--task", "sql", "--database_path", str(tmp_path / "absent.sqlite")]
    model = ["--checkpoints", "base", "--model_name_or_path", str(tmp_path / "absent")]
    with pytest.raises(SystemExit):
        main(["eval", str(trained), *sql, *model])
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: `task: sql` can score by no gold: 8 of 8 rows: there is no database (8). Row 0: ")


def test_a_full_model_is_loaded_from_the_output_directory(trained, tmp_path):
    save_tiny_model(tmp_path / "run", seed=5)
    recipe = parse_recipe([str(trained), "--output_dir", str(tmp_path / "run")])
    [tuned] = results_of(recipe, ["tuned"])
    expected = [completion.text for completion in written_by(tiny_llama(seed=5))]
    assert [row.prediction for row in tuned.predictions] == expected


@pytest.mark.parametrize(
    ("overrides", "dtype"),
    [(["--bf16", "true"], torch.bfloat16), ([], torch.float32), (["--dtype", "bfloat16"], torch.bfloat16)],
)
def test_weights_have_the_precision_that_training_computed_in(trained, overrides, dtype):
    for checkpoint, _, model in load_checkpoints(parse_recipe([str(trained), *overrides]), ["base", "tuned"], 0):
        weights = dict(model.named_parameters())
        adapter = {name for name in weights if "lora" in name}
        assert bool(adapter) == (checkpoint == "tuned")
        assert {weights[name].dtype for name in weights.keys() - adapter} == {dtype}
        assert {weights[name].dtype for name in adapter} <= {torch.float32}


def test_template_arguments_of_a_row_are_kept(tmp_path):
    chat = {"messages": [*CHATS[0], {"role": "assistant", "content": "a"}]}
    chat |= {"tools": '[{"name": "search"}]', "chat_template_kwargs": {"enable_thinking": False}}
    Dataset.from_list([chat]).to_json(tmp_path / "data.jsonl")
    recipe = parse_recipe([
        str(save_recipe(tmp_path, source_column=None, target_column=None)),
        *("--dataset_name", str(tmp_path / "data.jsonl"), "--dataset_test_split", "train"),
    ])  # fmt: skip
    [row] = load_rows(recipe, tiny_tokenizer())
    assert row.template_kwargs == {"tools": [{"name": "search"}], "enable_thinking": False}


def tokenizer_with_turns() -> PreTrainedTokenizerFast:
    """Another model's template, with tokens that the tiny one lacks, including the stop token."""
    other = copy.deepcopy(tiny_tokenizer())
    other.add_tokens(["<turn>", "<end>"], special_tokens=True)
    other.eos_token = "<end>"
    other.chat_template = (
        "{% for turn in messages %}<turn>{{ turn['role'] }}\n{{ turn['content'] }}"
        "{% if turn['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
    )
    return other


def test_before_a_run_the_tokenizer_is_the_one_that_it_would_save(trained, tmp_path):
    """They have the recipe's template and stop token, so the base gets the same prompts before and after the run."""
    (tmp_path / "short.jinja").write_text("{% for turn in messages %}{{ turn['content'] }}{% endfor %}")
    before = [str(trained), "--output_dir", str(tmp_path / "absent"), "--eos_token", "<|endoftext|>"]
    tokenizer = load_run_tokenizer(parse_recipe([*before, "--chat_template_path", str(tmp_path / "short.jinja")]))
    assert tokenizer.apply_chat_template(CHATS[0], tokenize=False) == PAIRS[0]["source"]
    assert tokenizer.eos_token == "<|endoftext|>"


def test_a_run_with_another_models_template_is_evaluated_and_merged(tmp_path):
    """TRL adds tokens to the tokenizer and rows to the embeddings, which only the run has; before and after it."""
    save_tiny_model(tmp_path / "model")
    tokenizer_with_turns().save_pretrained(tmp_path / "other")
    for split in ("train", "test"):
        Dataset.from_list(PAIRS).to_json(tmp_path / "data" / f"{split}.jsonl")
    recipe = parse_recipe([
        str(save_recipe(
            tmp_path, chat_template_path=str(tmp_path / "other"), use_peft=True, lora_target_modules="all-linear",
            learning_rate=0.1, max_steps=2, save_strategy="no", report_to="none", disable_tqdm=True,
        ))
    ])  # fmt: skip
    before = load_run_tokenizer(recipe)
    [base] = results_of(recipe, ["base"])
    trainer = train(recipe)
    after = load_run_tokenizer(recipe)
    texts = [tokenizer.apply_chat_template(CHATS[0], add_generation_prompt=True) for tokenizer in (before, after)]
    assert texts[0] == texts[1]
    assert before.eos_token == after.eos_token == "<end>"
    [again, tuned] = results_of(recipe, ["base", "tuned"])
    assert [row.prediction for row in again.predictions] == [row.prediction for row in base.predictions]
    expected = generate_completions(trainer.model, after, CHATS, LIMIT, len(CHATS))
    assert [row.prediction for row in tuned.predictions] == [completion.text for completion in expected]
    merge(str(recipe.output_dir), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert generate_completions(merged, after, CHATS, LIMIT, len(CHATS)) == expected


def test_single_tokens_of_tied_embeddings_are_not_trained(tmp_path):
    """TRL's loss cannot be computed with such a head; the refusal replaces an AttributeError in the first step."""
    save_tiny_model(tmp_path / "model", tie_word_embeddings=True)
    tokenizer_with_turns().save_pretrained(tmp_path / "other")
    Dataset.from_list(PAIRS).to_json(tmp_path / "data" / "train.jsonl")
    recipe = save_recipe(tmp_path, chat_template_path=str(tmp_path / "other"), use_peft=True, disable_tqdm=True)
    with pytest.raises(ValueError, match="cannot train single tokens of tied embeddings"):
        train(parse_recipe([str(recipe), "--report_to", "none"]))


def test_the_task_of_the_recipe_decides_the_scores(trained, caplog):
    """A regex that cannot be parsed counts as wrong, and the log names its row."""
    recipe = parse_recipe([str(trained), "--task", "regex"])
    golds, texts = ["a|b", "a*", "(a)&(b)"], ["b|a", "a**(", "(c)&(d)"]
    rows = [HeldOutRow(i, i, "", {}, "", gold) for i, gold in enumerate(golds)]
    predictions = [Prediction(i, "", *pair, True) for i, pair in enumerate(zip(golds, texts, strict=True))]
    with caplog.at_level(logging.INFO, logger="llm_jepa.evaluation.run"):
        scored = score(recipe.training.task, predictions, rows, [None] * 3)
    assert [row.values["equivalent"] for row in scored] == [True, False, True]
    assert [row.values["equivalent_nontrivial"] for row in scored] == [True, False, None]
    assert "Row 1 counts as wrong: the prediction cannot be read" in caplog.text


def test_the_database_of_a_row_is_named_by_its_columns(tmp_path):
    Dataset.from_list([{"source": "how many", "target": "SELECT 1", "db_id": "pets"}]).to_json(tmp_path / "data.jsonl")
    path = save_recipe(tmp_path, task="sql", database_path="dbs/{db_id}/{db_id}.sqlite", dataset_test_split="train")
    overrides = [str(path), "--dataset_name", str(tmp_path / "data.jsonl")]
    [row] = load_rows(parse_recipe(overrides), tiny_tokenizer())
    assert row.database == Path("dbs/pets/pets.sqlite")
    with pytest.raises(ValueError, match=r"cannot be filled from the columns \['source', 'target', 'db_id'\]"):
        load_rows(parse_recipe([*overrides, "--database_path", "{database}.sqlite"]), tiny_tokenizer())
