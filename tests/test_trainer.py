"""The trainer: equal to TRL without JEPA, and normalised over the step."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer
from tests.trainers import DATA, PAIR_COLUMNS, assert_same_weights, jepa_trainer, settings, step_losses, weights

pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1)], ids=["full", "lora"])
def test_weight_zero_is_trls_trainer_bit_for_bit_over_ten_steps(kind, adapter, tmp_path):
    common = settings(tmp_path, max_steps=10, gradient_accumulation_steps=2, per_device_train_batch_size=3)
    sft_rows = [{key: row[key] for key in row if key not in ("source_ids", "target_ids")} for row in DATA[kind]]
    sft = SFTTrainer(
        tiny_llama(),
        SFTConfig(**common),
        train_dataset=Dataset.from_list(sft_rows),
        processing_class=tiny_tokenizer(),
        peft_config=adapter,
    )
    sft.train()
    ours = jepa_trainer(tmp_path, DATA[kind], jepa_weight=0.0, peft_config=adapter, **common)
    ours.train()

    for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
        assert step_losses(ours, name) == step_losses(sft, name), name
    assert_same_weights(weights(ours.model), weights(sft.model))


def test_arms_of_one_seed_share_initial_weights_adapter_and_data_order(tmp_path):
    adapter = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=True)
    first_batches, initial = [], []
    for weight in (0.0, 1.0):
        trainer = jepa_trainer(tmp_path, jepa_weight=weight, peft_config=adapter, learning_rate=0.0)
        initial.append(weights(trainer.model))
        orders = []
        compute_loss = trainer.compute_loss

        def watched(model, inputs, *args, orders=orders, compute_loss=compute_loss, **kwargs):
            orders.append(inputs["row_index"].tolist())
            return compute_loss(model, inputs, *args, **kwargs)

        trainer.compute_loss = watched
        trainer.train()
        first_batches.append(orders)
    assert_same_weights(initial[0], initial[1])
    assert first_batches[0] == first_batches[1]
    assert first_batches[0] != [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]  # shuffled at all


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_one_batch_of_eight_and_a_ragged_two_by_four_give_the_same_gradient(source_view, tmp_path):
    """Micro-batches of 8, of 5 + 3 rows and of 3 + 3 + 2, whose label counts differ, take the same step."""
    after = []
    for size, accumulation in ((8, 1), (5, 2), (3, 3)):
        trainer = jepa_trainer(
            tmp_path,
            jepa_source_view=source_view,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        after.append(
            (weights(trainer.model), trainer.predictor.vectors_KD.detach().clone(), trainer.state.log_history[0])
        )
    for state, vectors_KD, log in after[1:]:
        for name, value in after[0][0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(vectors_KD, after[0][1], rtol=1e-5, atol=1e-6)
        for name in ("loss", "lm_loss", "jepa_loss", "jepa_cosine", "grad_norm"):
            assert log[name] == pytest.approx(after[0][2][name], rel=1e-5)


def test_the_loss_is_the_weighted_sum_of_its_logged_parts(tmp_path):
    trainer = jepa_trainer(tmp_path, jepa_weight=0.5, lm_weight=2.0)
    trainer.train()
    for entry in trainer.state.log_history[:3]:
        assert entry["loss"] == pytest.approx(2.0 * entry["lm_loss"] + 0.5 * entry["jepa_loss"], rel=1e-6)


def test_lm_weight_alone_scales_the_lm_only_arm(tmp_path):
    single, double = (jepa_trainer(tmp_path, jepa_weight=0.0, lm_weight=weight) for weight in (1.0, 2.0))
    for trainer in (single, double):
        trainer.train()
    assert step_losses(double)[0] == pytest.approx(2 * step_losses(single)[0], rel=1e-6)


def test_trained_weights_are_fp32_whatever_the_model_was_loaded_in(tmp_path):
    trainer = jepa_trainer(tmp_path, model=tiny_llama().to(torch.bfloat16))
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_a_stream_trains_as_the_same_rows_in_memory(tmp_path):
    losses = []
    for rows in (Dataset.from_list(PAIRS), Dataset.from_list(PAIRS).to_iterable_dataset()):
        args = JEPAConfig(**settings(tmp_path, max_steps=2, train_sampling_strategy="sequential", **PAIR_COLUMNS))
        trainer = JEPATrainer(tiny_llama(), args, train_dataset=rows, processing_class=tiny_tokenizer())
        trainer.train()
        losses.append((step_losses(trainer), step_losses(trainer, "jepa_loss")))
    assert losses[1] == losses[0]


def test_from_scratch_takes_the_config_and_leaves_the_weights(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    common = {"train_dataset": Dataset.from_list(PAIRS)}
    arms = [
        JEPATrainer(
            base, JEPAConfig(**settings(tmp_path, from_scratch=True, jepa_weight=weight, **PAIR_COLUMNS)), **common
        )
        for weight in (0.0, 1.0)
    ]
    trained = AutoModelForCausalLM.from_pretrained(base)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(arms[0].model.state_dict()[name], trained.state_dict()[name])
    assert_same_weights(weights(arms[0].model), weights(arms[1].model))


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_padding_to_a_multiple_changes_no_loss(layout, tmp_path):
    logs = []
    for multiple in (None, 64):
        trainer = jepa_trainer(tmp_path, jepa_layout=layout, jepa_target="stop_gradient", pad_to_multiple_of=multiple)
        laid_out = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])["laid_out"]
        lengths = [part.input_ids_RL.shape[1] for part in (laid_out.batch, laid_out.detached)]
        assert multiple is None or [length % multiple for length in lengths] == [0, 0]
        trainer.train()
        logs.append(step_losses(trainer))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)
