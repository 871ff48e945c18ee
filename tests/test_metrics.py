"""What is logged: sums per step in training, means over rows in evaluation, a warning once."""

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from llm_jepa.metrics import StepMetrics


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator()


def value(number: float) -> dict[str, Tensor]:
    return {"jepa_loss": torch.tensor(number)}


def healthy_pairs() -> tuple[Tensor, Tensor]:
    return torch.eye(64), torch.eye(64)


def collapsed_pairs() -> tuple[Tensor, Tensor]:
    return torch.ones(64, 8), torch.ones(64, 8)


def test_training_value_is_the_sum_of_a_steps_micro_batches(accelerator: Accelerator):
    """Two steps of two micro-batches: (1 + 2 + 3 + 6) / 2 steps."""
    metrics = StepMetrics()
    for micro_batches in ((1.0, 2.0), (3.0, 6.0)):
        metrics.begin_step()
        for number in micro_batches:
            metrics.add("train", value(number), 4)
    assert metrics.summary("train", accelerator) == ({"jepa_loss": 6.0}, None)


def test_summary_begins_anew(accelerator: Accelerator):
    """Each log is of the steps since the last one."""
    metrics = StepMetrics()
    for number in (4.0, 10.0):
        metrics.begin_step()
        metrics.add("train", value(number), 4)
        assert metrics.summary("train", accelerator)[0] == {"jepa_loss": number}
    assert metrics.summary("train", accelerator) == ({}, None)


def test_step_without_values_does_not_count(accelerator: Accelerator):
    """A stream that is read twice gives empty steps at the end of the first pass."""
    metrics = StepMetrics()
    for micro_batches in ((1.0,), (), (), (3.0,)):
        metrics.begin_step()
        for number in micro_batches:
            metrics.add("train", value(number), 4)
    assert metrics.summary("train", accelerator)[0] == {"jepa_loss": 2.0}


def test_evaluation_value_is_the_mean_over_rows(accelerator: Accelerator):
    """A ragged last batch weighs as its rows: (4 * 2 + 1 * 7) / 5."""
    metrics = StepMetrics()
    metrics.add("eval", value(2.0), 4)
    metrics.add("eval", value(7.0), 1)
    assert metrics.summary("eval", accelerator) == ({"eval_jepa_loss": 3.0}, None)


def test_evaluation_in_between_leaves_training_values_alone(accelerator: Accelerator):
    """An evaluation may fall between two logs."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(1.0), 4)
    metrics.add("eval", value(100.0), 4)
    metrics.summary("eval", accelerator)
    metrics.begin_step()
    metrics.add("train", value(3.0), 4)
    assert metrics.summary("train", accelerator)[0] == {"jepa_loss": 2.0}


def test_names_keep_their_values(accelerator: Accelerator):
    """They are reduced as one tensor and told apart again."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", {"lm_loss": torch.tensor(2.0), "jepa_loss": torch.tensor(5.0)}, 4)
    assert metrics.summary("train", accelerator)[0] == {"lm_loss": 2.0, "jepa_loss": 5.0}


def test_values_hold_no_graph():
    """A logging interval of many steps must not keep their activations."""
    metrics = StepMetrics()
    metrics.add("train", {"jepa_loss": torch.ones((), requires_grad=True) * 2}, 4)
    assert not metrics._values["train"]["jepa_loss"][0].requires_grad


def test_diagnostics_stand_beside_the_values(accelerator: Accelerator):
    """Orthogonal pairs: nothing in common with others, all found, full rank."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(1.0), 4)
    metrics.add_pairs("train", *healthy_pairs())
    summary, warning = metrics.summary("train", accelerator)
    assert summary["jepa_cosine_unpaired"] == pytest.approx(0.0)
    assert summary["jepa_effective_rank"] == pytest.approx(64, rel=1e-4)
    assert summary["jepa_retrieval_at_1"] == 1.0
    assert warning is None


def test_collapse_is_warned_of_once(accelerator: Accelerator):
    """The second log stays silent."""
    metrics = StepMetrics()
    warnings = []
    for _ in range(2):
        metrics.begin_step()
        metrics.add("train", value(0.0), 4)
        metrics.add_pairs("train", *collapsed_pairs())
        warnings.append(metrics.summary("train", accelerator)[1])
    assert "collapsed" in warnings[0]
    assert warnings[1] is None


def test_few_pairs_do_not_alarm(accelerator: Accelerator):
    """Eight alike pairs may be one batch's chance."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(0.0), 4)
    metrics.add_pairs("train", torch.ones(8, 4), torch.ones(8, 4))
    assert metrics.summary("train", accelerator)[1] is None


def test_evaluation_pairs_are_those_of_one_evaluation(accelerator: Accelerator):
    """Pairs of training, and of an earlier evaluation, are left out; its collapse gives no warning."""
    metrics = StepMetrics()
    metrics.add_pairs("train", *healthy_pairs())
    for pairs, expected in (((torch.ones(8, 8),) * 2, 1.0), ((torch.eye(8),) * 2, 0.0)):
        metrics.add("eval", value(0.0), 4)
        metrics.add_pairs("eval", *pairs)
        summary, warning = metrics.summary("eval", accelerator)
        assert summary["eval_jepa_cosine_unpaired"] == pytest.approx(expected, abs=1e-6)
        assert warning is None


def test_arm_without_pairs_logs_its_values_alone(accelerator: Accelerator):
    """The LM-only arm."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", {"lm_loss": torch.tensor(2.0)}, 4)
    assert metrics.summary("train", accelerator) == ({"lm_loss": 2.0}, None)
