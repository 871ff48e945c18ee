"""`llm-jepa generate` and `llm-jepa eval --decoding draft`, and what they refuse."""

import json

import pytest
import torch
import yaml

from llm_jepa.cli import main
from llm_jepa.cli.argument_types import GENERATION_METHODS
from llm_jepa.inference import text_generation
from llm_jepa.inference.tuned_model import load_tuned
from llm_jepa.models.latent_predictor import DRAFT_TOKENS, facts_of, write_latent_predictor
from llm_jepa.models.merging import merge
from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.objectives import DYNAMICS_OPTIONS
from llm_jepa.train import train
from tests.inference.drafters import untrained_dynamics
from tests.inference.test_answer_command import write_predictor
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

PROMPT = ["--prompt", PAIRS[0]["source"], "--max_new_tokens", "8", "--dtype", "float32"]
OPTIONS = dict(zip(DYNAMICS_OPTIONS, ("mlp", None, 2.0, 1), strict=True))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model with a drafter, and a recipe whose run it is."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "run")
    facts = facts_of(tiny_llama(), tiny_tokenizer(), ("next_latent",), OPTIONS)
    weights = dict(untrained_dynamics(tiny_llama()).named_parameters())
    write_latent_predictor(tmp_path / "run", facts, weights | {DRAFT_TOKENS: torch.arange(2, 300)})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:3]))
    settings = {
        "model_name_or_path": "run", "dataset_test_split": "train", "output_dir": "run",
        "source_column": "source", "target_column": "target", "bf16": False, "use_cpu": True,
        "dataset_name": "rows.jsonl",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_an_answer_is_drafted_streamed_and_the_same_as_a_plain_one(place, capsys):
    assert main(["generate", "run", *PROMPT, "--decoding", "plain"]) == 0
    plain = capsys.readouterr().out.splitlines()
    assert plain[-1].startswith("[")
    for options in ([], ["--stream"], ["--num_drafted_tokens", "3", "--draft_vocabulary", "50"]):
        assert main(["generate", "run", *PROMPT, *options]) == 0
        drafted = capsys.readouterr().out.splitlines()
        assert [line for line in drafted if line][: len(plain) - 1] == [line for line in plain[:-1] if line]
        assert drafted[-1].startswith("accepted at positions 1, 2, ...: ")
    assert main(["generate", "run", *PROMPT, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["text"] == "\n".join(plain[:-1])
    assert report["tokens_per_forward"] == report["tokens"] / report["forwards"]


def test_drafting_is_measured_beside_plain_decoding(place, capsys):
    assert main(["eval", "recipe.yaml", "--decoding", "draft,prompt_lookup", "--max_new_tokens", "8"]) == 0
    printed = capsys.readouterr().out
    assert "same text as plain" in printed
    report = json.loads((place / "run" / "generation.json").read_text())
    assert [*report] == ["plain", "draft", "prompt_lookup"]
    assert all(one["same_text"] == one["answers"] == 3 for one in report.values())
    assert report["plain"]["tokens_per_forward"] == 1
    assert report["plain"]["times_faster"] == 1
    assert report["draft"]["acceptance"]


COMMANDS = "eval --decoding plain,prompt_lookup", "eval", "probe"


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_written_into_the_directory_of_a_bare_model(place, command):
    save_tiny_model(place / "model")
    (place / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[:4]))
    name, *options = command.split(" ")
    data = "--dataset_name rows.jsonl --dataset_test_split train --source_column source --target_column target"
    before = {*(place / "model").iterdir()}
    assert main([name, "model", *options, *data.split(" "), "--use_cpu", "true", "--bf16", "false"]) == 0
    assert {*(place / "model").iterdir()} == before


@pytest.mark.parametrize("settings", [
    {"jepa_objective": "next_latent", "num_predictor_tokens": 1},
    {"jepa_weight": 0, "jepa_layout": "auto"},
], ids=["predictor", "SFT"])  # fmt: skip
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_prompt_is_rendered_as_in_training(place, settings, is_plain):
    """Strings `prompt` and `completion` by no chat template, with the system prompt, by the run and what is merged."""
    columns = ("prompt", "completion") if is_plain else ("source", "target")
    rows = [dict(zip(columns, (pair["source"], pair["target"]), strict=True)) for pair in PAIRS]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings |= {} if is_plain else {"source_column": "source", "target_column": "target"}
    save_tiny_model(place / "model")
    recipe = {
        "model_name_or_path": "model", "dataset_name": "rows.jsonl", "output_dir": "trained", "bf16": False,
        "use_cpu": True, "max_steps": 1, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
        "use_peft": True, "system_prompt": "Write a regex.",
    }  # fmt: skip
    (place / "plain.yaml").write_text(yaml.safe_dump(recipe | settings))
    trainer = train(parse_recipe([str(place / "plain.yaml")]))
    of_training = {row["row_index"]: row["input_ids"] for row in trainer.train_dataset}[0]
    merge("trained", place / "merged", without_predictor=True)
    for name in ("trained", "merged"):
        recipe, tokenizer, _ = load_tuned(place / name)
        ids = text_generation.prompt_tokeniser(recipe, tokenizer)(PAIRS[0]["source"])
        assert ids == of_training[: len(ids)], name


@pytest.mark.parametrize(
    ("settings", "prompts", "warns", "template"),
    [
        ({}, None, True, True),
        ({"source_column": "source", "target_column": "target"}, None, False, True),
        ({}, {"has_plain_prompts": True}, False, False),
    ],
)
def test_the_form_of_a_published_runs_prompts_is_read_or_said_to_be_unknown(
    place, settings, prompts, warns, template, caplog
):
    """Named columns of source and target are chats; other rows may have been plain strings."""
    save_tiny_model(place / "pulled")
    recipe = {"model_name_or_path": "model", "dataset_name": "rows", "output_dir": "outputs/pulled", "bf16": False}
    (place / "pulled" / "recipe.yaml").write_text(yaml.safe_dump(recipe | settings))
    if prompts is not None:
        (place / "pulled" / "prompts.json").write_text(json.dumps(prompts))
    recipe, tokenizer, _ = load_tuned(place / "pulled")
    ids = text_generation.prompt_tokeniser(recipe, tokenizer)("lines")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "lines"}], add_generation_prompt=True)
    assert ids == (chat["input_ids"] if template else tokenizer("lines")["input_ids"])
    said = [record.getMessage() for record in caplog.records if record.name == "llm_jepa.models.run_mapping"]
    assert len(said) == warns
    assert not warns or "was trained on plain strings `prompt` and `completion` is not recorded" in said[0]


REFUSALS = {
    "generate run --prompt=": "A `--prompt` is empty",
    "generate run --prompt=caf\udce9": "argument --prompt: 'caf\\udce9' is not UTF-8",
    "generate pairs --prompt=a": "is of pair, which drafts no tokens",
    "generate none --prompt=a": "none",
    "generate run --prompt=a --decoding=plain --num_drafted_tokens=2": "`--num_drafted_tokens` has no effect with",
    "generate run --prompt=a --stream --json": "Leave one out",
    "eval recipe.yaml --num_drafted_tokens=2": "`--num_drafted_tokens` has no effect without `--decoding draft`",
    "eval recipe.yaml --decoding=draft --labels=x": "`--labels` has no effect with `--decoding draft`",
    "eval recipe.yaml --decoding=prompt_lookup --draft_vocabulary=2": "`--draft_vocabulary` has no effect with",
    "eval recipe.yaml --decoding=draft,latent": "allowed are latent",
    "generate run --prompt=a --num_drafted_tokens=0": "not a whole number of at least 1",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_what_cannot_be_generated_is_refused_in_one_line(place, line, capsys):
    save_tiny_model(place / "pairs")
    write_predictor(place / "pairs")
    with pytest.raises(SystemExit):
        main(line.split(" "))
    assert REFUSALS[line] in capsys.readouterr().err.splitlines()[-1]


def test_the_command_line_knows_every_method():
    assert GENERATION_METHODS == text_generation.GENERATION_METHODS
