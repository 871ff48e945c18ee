"""A training keeps what latent inference needs beside the model that it saves, and nothing older."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.inference import LatentEncoder
from llm_jepa.inference.drafting import trained_dynamics
from llm_jepa.models.latent_predictor import DRAFT_TOKENS, FOLDER, has_latent_predictor, read_facts, read_weights
from tests.inference.latent_runs import embeddings_of_training, new_trainer
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

SOURCES, TARGETS = [pair["source"] for pair in PAIRS], [pair["target"] for pair in PAIRS]


@pytest.mark.parametrize("peft", [False, True], ids=["full", "lora"])
def test_a_saved_run_has_the_embeddings_that_it_was_trained_to(tmp_path, peft):
    """Read from its directory alone, by the base that its adapter names."""
    base = save_tiny_model(tmp_path / "base")
    trainer = JEPATrainer(
        base,
        JEPAConfig(
            str(tmp_path / "run"), source_column="source", target_column="target", bf16=False, use_cpu=True,
            report_to="none", disable_tqdm=True, max_steps=2, learning_rate=0.05, num_predictor_tokens=2,
            jepa_source_view="prefix", system_prompt="Write a regex.", model_init_kwargs={"revision": "v1"},
        ),
        train_dataset=Dataset.from_list(PAIRS),
        peft_config=LoraConfig(task_type="CAUSAL_LM") if peft else None,
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    (tmp_path / "run" / "recipe.yaml").write_text(f"model_name_or_path: {base}\nbf16: false\nuse_cpu: true\n")
    facts = read_facts(tmp_path / "run")
    assert (facts.base_name_or_path, facts.base_revision) == (base, "v1")
    encoder = LatentEncoder.from_run(tmp_path / "run")
    prediction_ND, target_ND = embeddings_of_training(trainer)
    torch.testing.assert_close(encoder.encode_sources(SOURCES), prediction_ND, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.encode_targets(TARGETS), target_ND, atol=1e-5, rtol=0)
    assert not has_latent_predictor(tmp_path / "run" / "checkpoint-2")
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")  # which ignores the folder


def test_several_objectives_are_kept_together_without_a_control_and_the_views_are_found(tmp_path):
    trainer = new_trainer(tmp_path, jepa_objective=["pair", "next_latent", "multi_token"])
    trainer.save_model()
    facts = read_facts(tmp_path)
    assert facts.objectives == ("pair", "next_latent")
    assert facts.options["latent_predictor"] == "mlp"
    assert {name.partition(".")[0] for name in read_weights(tmp_path)} == {"pair", "next_latent", DRAFT_TOKENS}
    prediction_ND, _ = embeddings_of_training(trainer)
    encoder = LatentEncoder(trainer.model, trainer.processing_class, facts, read_weights(tmp_path))
    torch.testing.assert_close(encoder.encode_sources(SOURCES), prediction_ND, atol=1e-5, rtol=0)


def test_what_keeps_nothing_removes_what_an_older_training_left(tmp_path):
    new_trainer(tmp_path).save_model()
    assert has_latent_predictor(tmp_path)
    new_trainer(tmp_path, num_predictor_tokens=0).save_model()
    assert read_weights(tmp_path) == {}
    tube = {"jepa_objective": "tube", "num_predictor_tokens": 1}
    new_trainer(tmp_path, **tube).save_model()
    assert not (tmp_path / FOLDER).exists()


def test_the_best_checkpoint_brings_its_predictor(tmp_path):
    """The highest loss counts as best here, which is that of the first checkpoint."""
    trainer = JEPATrainer(
        tiny_llama(),
        JEPAConfig(
            str(tmp_path), source_column="source", target_column="target", bf16=False, use_cpu=True, report_to="none",
            disable_tqdm=True, max_steps=3, learning_rate=0.01, eval_strategy="steps", eval_steps=1, save_steps=1,
            load_best_model_at_end=True, greater_is_better=True,
        ),
        train_dataset=Dataset.from_list(PAIRS),
        eval_dataset=Dataset.from_list(PAIRS),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best.endswith("checkpoint-1")
    saved = load_file(f"{best}/jepa_predictor.safetensors")["vectors_KD"]
    assert torch.equal(trainer.predictor.vectors_KD.detach(), saved)
    assert not torch.equal(load_file(tmp_path / "checkpoint-3" / "jepa_predictor.safetensors")["vectors_KD"], saved)


@pytest.mark.parametrize("beside", ["tube", "multi_token", "pair"])
def test_a_drafter_is_read_whatever_trained_beside_it(tmp_path, beside):
    """`tube` and `multi_token` keep nothing, `pair` keeps its own."""
    views = {"num_predictor_tokens": 2 if beside == "pair" else 1}
    trainer = new_trainer(tmp_path, jepa_objective=["next_latent", beside], **views)
    trainer.save_model()
    read = trained_dynamics(read_facts(tmp_path), read_weights(tmp_path), trainer.model.config)
    of_training = {name.removeprefix("next_latent."): value for name, value in trainer.predictor.state_dict().items()}
    for name, value in read.state_dict().items():
        assert torch.equal(value, of_training[name]), name
