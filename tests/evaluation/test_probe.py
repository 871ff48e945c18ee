"""The embeddings are those of the views, by each checkpoint; figures and plots are written."""

import copy
import json

import pytest
import torch
from datasets import Dataset
from peft import PeftModel

from llm_jepa import JEPATrainer
from llm_jepa.cli import main
from llm_jepa.evaluation.embedding_figures import draw_maps
from llm_jepa.evaluation.probe import Embeddings, describe, embed_checkpoints, held_out_view_ids
from llm_jepa.recipe import build_recipe, parse_recipe
from llm_jepa.train import train
from tests.tiny import CHATML, PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe and its run of two LoRA steps."""
    directory = tmp_path_factory.mktemp("probe")
    save_tiny_model(directory / "model")
    (directory / "data").mkdir()
    for split in ("train", "test"):
        Dataset.from_list(PAIRS).to_json(directory / "data" / f"{split}.jsonl")
    recipe = directory / "recipe.yaml"
    settings = {
        "model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "data"),
        "output_dir": str(directory / "run"), "source_column": "source", "target_column": "target", "bf16": False,
        "use_peft": True, "lora_target_modules": "all-linear", "learning_rate": 0.1, "max_steps": 2,
        "save_strategy": "no", "disable_tqdm": True, "report_to": "none",
    }  # fmt: skip
    recipe.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    train(parse_recipe([str(recipe)]))
    return recipe


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_embeddings_are_the_plain_models_at_the_last_token_of_each_view(trained, source_view):
    recipe = parse_recipe([str(trained), "--jepa_source_view", source_view])
    sequences = held_out_view_ids(recipe, tiny_tokenizer(), None)
    base, tuned = embed_checkpoints(
        recipe, ["base", "tuned"], sequences, 3, tiny_tokenizer(), lambda checkpoint, rows: None
    )
    adapter = PeftModel.from_pretrained(tiny_llama(), recipe.output_dir)
    for embeddings, model in ((base, tiny_llama()), (tuned, adapter)):
        for ids, actual_ND in zip(sequences, (embeddings.source_ND, embeddings.target_ND), strict=True):
            expected = [
                model(torch.tensor([one]), output_hidden_states=True).hidden_states[-1][0, -1].detach() for one in ids
            ]
            torch.testing.assert_close(actual_ND, torch.stack(expected), atol=1e-4, rtol=0)
    assert not torch.allclose(base.source_ND, tuned.source_ND, atol=1e-3)
    starts = {tuple(ids[:2]) for ids in sequences[0]}
    assert len(starts) == 1  # each begins with the header, or with the system turn


def test_rows_are_rendered_with_their_tools_and_template_arguments(tmp_path):
    """As training renders them: a prefix ends where the source ends in the conversation that is trained on."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{% if tools %}<|im_start|>tools {{ tools[0]['name'] }}<|im_end|>{% endif %}<|im_start|>{{ date }}<|im_end|>"
        + CHATML
    )
    save_tiny_model(tmp_path / "model")
    rows = [
        {"messages": [{"role": "user", "content": pair["source"]}, {"role": "assistant", "content": pair["target"]}],
         "tools": '[{"name": "search"}]'}
        for pair in PAIRS
    ]  # fmt: skip
    Dataset.from_list(rows).to_json(tmp_path / "data.jsonl")
    settings = {
        "model_name_or_path": str(tmp_path / "model"), "dataset_name": str(tmp_path / "data.jsonl"),
        "dataset_test_split": "train", "output_dir": str(tmp_path / "run"), "bf16": False, "use_cpu": True,
        "jepa_source_view": "prefix", "chat_template_kwargs": {"date": "26 Jul"},
    }  # fmt: skip
    recipe = build_recipe(tmp_path / "recipe.yaml", settings)
    sources, _ = held_out_view_ids(recipe, tokenizer, None)
    trainer = JEPATrainer(
        tiny_llama(), recipe.training, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    assert sources == list(trainer.train_dataset["source_ids"])
    assert tokenizer.decode(sources[0]).startswith("<|im_start|>tools search<|im_end|><|im_start|>26 Jul<|im_end|>")


def test_figures_of_views_that_are_alike():
    source_ND = torch.eye(8)
    figures = describe(source_ND, source_ND, torch.arange(8))
    assert figures["paired_cosine"] == pytest.approx(1)
    assert figures["unpaired_cosine"] == pytest.approx(0)
    assert figures["retrieval_at_1"] == 1
    assert figures["effective_rank_source"] == pytest.approx(8, rel=1e-4)
    assert figures["singular_values_of_difference"] == pytest.approx([0] * 8)


def test_rows_that_share_a_target_are_not_told_apart():
    target_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    figures = describe(target_ND, target_ND, torch.tensor([5, 5, 6, 7]))
    # Of the ten ordered pairs with different targets all have cosine 0 but the two of the opposite targets.
    assert figures["unpaired_cosine"] == pytest.approx(-2 / 10)
    assert figures["retrieval_at_1"] == 1
    assert figures["retrieval_at_chance"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 4 + 1 / 4) / 4)


def test_the_command_prints_both_arms_and_writes_figures_and_pictures(trained, tmp_path, capsys):
    assert main(["probe", str(trained), "--report", str(tmp_path / "look")]) == 0
    printed = capsys.readouterr().out
    assert "retrieval_at_1" in printed
    figures = json.loads((tmp_path / "look" / "probe.json").read_text())
    assert list(figures) == ["base", "tuned"]
    picture = (tmp_path / "look" / "probe.svg").read_text()
    assert picture.startswith("<?xml")
    assert "<svg" in picture


def test_too_few_rows_are_refused(trained):
    with pytest.raises(ValueError, match=r"`max_rows` is 3; .* at least 4 rows"):
        held_out_view_ids(parse_recipe([str(trained)]), tiny_tokenizer(), 3)


def test_collapsed_embeddings_are_drawn_as_the_point_that_they_are(tmp_path):
    same_ND = torch.ones(10, 4)
    draw_maps([Embeddings("tuned", same_ND, same_ND, torch.arange(10))], tmp_path / "probe.svg")
    assert "t-SNE, tuned" in (tmp_path / "probe.svg").read_text()
