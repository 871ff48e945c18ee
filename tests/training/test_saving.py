"""What a run saves: predictor tokens beside the checkpoints, a plain model, and all that a resumed run needs."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_jepa.objectives.own_parameters import PREDICTOR_FILE
from tests.tiny import save_tiny_model
from tests.trainers import assert_same_weights, jepa_trainer, step_losses, weights

pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM")], ids=["full", "lora"])
def test_predictor_tokens_are_distinct_trained_saved_beside_checkpoints_and_absent_from_what_ships(adapter, tmp_path):
    trainer = jepa_trainer(
        tmp_path, num_predictor_tokens=3, save_strategy="steps", save_steps=3, peft_config=adapter, max_steps=3
    )
    start_KD = trainer.predictor.vectors_KD.detach().clone()
    trainer.train()
    trainer.save_model()

    moved_K = (trainer.predictor.vectors_KD - start_KD).abs().amax(dim=1)
    assert (torch.pdist(start_KD) > 0.1).all()
    assert (moved_K > 0).all()
    saved = load_file(tmp_path / "checkpoint-3" / PREDICTOR_FILE)
    assert torch.equal(saved["vectors_KD"], trainer.predictor.vectors_KD)
    assert not (tmp_path / PREDICTOR_FILE).exists()
    shipped = load_file(tmp_path / ("model.safetensors" if adapter is None else "adapter_model.safetensors"))
    assert not [name for name in shipped if "predictor" in name]
    assert not [name for name in trainer.model.state_dict() if "predictor" in name]


def test_the_shipped_model_and_adapter_load_with_plain_transformers_and_peft(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    full = jepa_trainer(tmp_path / "full", model=base)
    lora = jepa_trainer(tmp_path / "lora", model=base, peft_config=LoraConfig(task_type="CAUSAL_LM"))
    inputs = {"input_ids": torch.arange(3, 13)[None]}
    for trainer, auto_class in ((full, AutoModelForCausalLM), (lora, AutoPeftModelForCausalLM)):
        trainer.train()
        trainer.save_model()
        loaded, info = (
            auto_class.from_pretrained(trainer.args.output_dir, output_loading_info=True)
            if auto_class is AutoModelForCausalLM
            else (auto_class.from_pretrained(trainer.args.output_dir), None)
        )
        assert info is None or not (info["missing_keys"] or info["unexpected_keys"])
        trainer.model.eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(**inputs).logits, trainer.model(**inputs).logits)


def test_a_resumed_run_draws_the_spans_that_it_would_have_drawn(tmp_path):
    common = {"jepa_objective": "tube", "span_sampler": "uniform", "save_strategy": "steps", "save_steps": 3}
    whole = jepa_trainer(tmp_path / "run", max_steps=6, **common)
    whole.train()
    resumed = jepa_trainer(tmp_path / "run", max_steps=6, **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert step_losses(resumed, "jepa_loss") == step_losses(whole, "jepa_loss")
    assert_same_weights(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1)], ids=["full", "lora"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(adapter, tmp_path):
    common = {"num_predictor_tokens": 2, "save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = jepa_trainer(tmp_path / "run", peft_config=adapter, **common)
    whole.train()
    resumed = jepa_trainer(tmp_path / "run", peft_config=adapter, **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))

    assert_same_weights(weights(resumed.model), weights(whole.model))
    assert torch.equal(resumed.predictor.vectors_KD, whole.predictor.vectors_KD)
    assert step_losses(resumed)[-3:] == step_losses(whole)[-3:]
    assert step_losses(resumed, "jepa_loss")[-3:] == step_losses(whole, "jepa_loss")[-3:]


def test_a_checkpoint_with_another_number_of_predictor_tokens_is_refused(tmp_path):
    jepa_trainer(tmp_path, num_predictor_tokens=2, save_strategy="steps", save_steps=2).train()
    other = jepa_trainer(tmp_path, num_predictor_tokens=3)
    with pytest.raises(ValueError, match=r"`vectors_KD` \(2, 32\); .*`num_predictor_tokens`"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
