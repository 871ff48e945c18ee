"""However long the next log is away, a run keeps one number for each value, and logs the same mean."""

import math

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.compute.flops import ModelSize
from llm_jepa.training.running_sums import RunningSum, widened
from llm_jepa.training.step_metrics import StepMetrics
from llm_jepa.training.throughput import Throughput
from tests.trainers import jepa_trainer, step_losses


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_mean_of_a_running_sum_is_that_of_the_list(values):
    """By the expression that TRL computes."""
    running = RunningSum()
    for value in values:
        running.append(value)
    assert sum(running) / len(running) == sum(values) / len(values)
    assert len(list(running)) == 1


def test_a_million_small_values_are_added_to_a_large_sum():
    """In float32, 2^24 + 1 is 2^24."""
    metrics = StepMetrics()
    metrics.begin_step()
    for value in (2.0**24, *[1.0] * 1000):
        metrics.add("train", {"lm_loss": torch.tensor(value)}, 1)
    assert metrics.summary("train", Accelerator())[0] == {"lm_loss": 2.0**24 + 1000}
    assert widened(torch.ones(())).dtype == torch.float64


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_a_logged_value_is_the_exact_sum(values):
    metrics = StepMetrics()
    metrics.begin_step()
    for value in values:
        metrics.add("train", {"lm_loss": torch.tensor(value)}, 1)
    logged = metrics.summary("train", Accelerator())[0]["lm_loss"]
    assert logged == pytest.approx(math.fsum(values), abs=1e-12)


def test_values_are_kept_as_one_number_without_a_graph():
    metrics = StepMetrics()
    for _ in range(100):
        metrics.add("train", {"jepa_loss": torch.ones((), requires_grad=True) * 2}, 4)
    assert metrics.state()["sums"]["jepa_loss"].shape == ()
    assert not metrics.state()["sums"]["jepa_loss"].requires_grad


def test_flops_of_many_steps_do_not_overflow():
    """2^63 FLOPs are hours of one H200; counted in integers, they would become negative."""
    throughput = Throughput(ModelSize(2**60, 1, 2**60, 1), None, clock=iter(range(100)).__next__)
    batch = {"attention_mask": torch.ones(1, 1, dtype=torch.long), "labels": torch.full((1, 1), -100)}
    for _ in range(3):
        throughput.begin_step()
        throughput.add(batch, False)
        throughput.on_step_end()
    assert throughput.summary(Accelerator())["tflops_per_second"] == pytest.approx(6 * 2**60 / 1e12)


def test_a_run_that_never_logs_keeps_no_list_in_memory_nor_in_its_checkpoint(tmp_path):
    """Three parts of the loss and two values of TRL's by micro-batch, and the tokens and FLOPs."""
    trainer = jepa_trainer(
        tmp_path,
        max_steps=4,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_strategy="no",
        save_strategy="steps",
        save_steps=3,
    )
    trainer.train()
    window = torch.load(tmp_path / "checkpoint-3" / "log_window_0.pt", weights_only=True)
    assert {name: total.shape for name, total in window["step_metrics"]["sums"].items()} == dict.fromkeys(
        ("lm_loss", "jepa_loss", "jepa_cosine"), ()
    )
    assert {name: seen[1] for name, seen in window["trl_metrics"].items()} == {
        "entropy": 6, "mean_token_accuracy": 6, "num_tokens": 1,
    }  # fmt: skip
    assert all(len(list(values)) == 1 for values in trainer._metrics["train"].values())
    assert torch.as_tensor(trainer.throughput._flops).shape == ()


def test_trls_values_are_logged_the_same_after_a_resume_within_a_logging_interval(tmp_path):
    common = {"max_steps": 4, "logging_steps": 4, "save_strategy": "steps", "save_steps": 3}
    whole = jepa_trainer(tmp_path, **common)
    whole.train()
    resumed = jepa_trainer(tmp_path, **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for name in ("entropy", "mean_token_accuracy", "num_tokens", "lm_loss", "jepa_loss", "loss"):
        assert step_losses(resumed, name) == step_losses(whole, name)


def test_train_loss_after_a_resume_is_the_mean_of_the_steps_since(tmp_path):
    """The checkpoint's log window has the loss of three steps that this start has not trained."""
    every_step = jepa_trainer(tmp_path / "logged", max_steps=4)
    every_step.train()
    common = {"max_steps": 4, "logging_steps": 10, "save_strategy": "steps", "save_steps": 3}
    jepa_trainer(tmp_path / "run", **common).train()
    resumed = jepa_trainer(tmp_path / "run", **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert step_losses(resumed, "train_loss") == pytest.approx(step_losses(every_step)[3:], rel=1e-5)
