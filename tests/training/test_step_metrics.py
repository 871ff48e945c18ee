"""Logged metrics: sums per step in training, means over rows in evaluation, one warning."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor

from llm_jepa.training.step_metrics import StepMetrics
from tests.forks import fork_ranks, said_by_ranks


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator()


def value(number: float) -> dict[str, Tensor]:
    return {"jepa_loss": torch.tensor(number)}


def healthy_pairs() -> tuple[Tensor, Tensor, Tensor]:
    return torch.eye(64), torch.eye(64), torch.arange(64)


def collapsed_pairs(rows: int = 64, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ones(rows, width), torch.ones(rows, width), torch.arange(rows)


def test_training_value_is_the_sum_of_a_steps_micro_batches(accelerator: Accelerator):
    """Two steps of two micro-batches: (1 + 2 + 3 + 6) / 2 steps."""
    metrics = StepMetrics()
    for micro_batches in ((1.0, 2.0), (3.0, 6.0)):
        metrics.begin_step()
        for number in micro_batches:
            metrics.add("train", value(number), 4)
    assert metrics.summary("train", accelerator) == ({"jepa_loss": 6.0}, None)


def test_summary_begins_anew(accelerator: Accelerator):
    """Each log covers the steps since the last one."""
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
    """A smaller last batch counts by its rows: (4 * 2 + 1 * 7) / 5."""
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
    """They are reduced as one tensor and split again."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", {"lm_loss": torch.tensor(2.0), "jepa_loss": torch.tensor(5.0)}, 4)
    assert metrics.summary("train", accelerator)[0] == {"lm_loss": 2.0, "jepa_loss": 5.0}


def test_diagnostics_stand_beside_the_values(accelerator: Accelerator):
    """Orthogonal pairs: cosine 0 with others, all retrieved, full rank."""
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


@pytest.mark.parametrize("num_targets", [1, 2, 4])
def test_few_answers_do_not_alarm_while_they_differ(accelerator: Accelerator, num_targets: int):
    """64 rows with one, two or four answers, each predicted rightly; two of them are of rank 2."""
    target_ND = torch.eye(8)[:num_targets].repeat(64 // num_targets, 1)
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(0.0), 64)
    metrics.add_pairs("train", target_ND, target_ND, torch.arange(num_targets).repeat(64 // num_targets))
    summary, warning = metrics.summary("train", accelerator)
    assert summary["jepa_effective_rank"] == pytest.approx(num_targets, rel=1e-3)
    assert summary.get("jepa_cosine_unpaired", 0.0) == pytest.approx(0.0)
    assert warning is None


def test_two_answers_that_became_one_point_alarm(accelerator: Accelerator):
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(0.0), 64)
    metrics.add_pairs("train", *collapsed_pairs()[:2], torch.arange(64) % 2)
    assert "collapsed" in str(metrics.summary("train", accelerator)[1])


def test_few_pairs_do_not_alarm(accelerator: Accelerator):
    """Eight similar pairs may be chance."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(0.0), 4)
    metrics.add_pairs("train", *collapsed_pairs(8, 4))
    assert metrics.summary("train", accelerator)[1] is None


def test_evaluation_pairs_are_those_of_one_evaluation(accelerator: Accelerator):
    """Pairs of training and of an earlier evaluation are left out; a collapse in evaluation gives no warning."""
    metrics = StepMetrics()
    metrics.add_pairs("train", *healthy_pairs())
    for pairs, expected in ((collapsed_pairs(8), 1.0), ((torch.eye(8), torch.eye(8), torch.arange(8)), 0.0)):
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


def test_new_evaluation_forgets_rows_that_were_never_logged(accelerator: Accelerator):
    """`Trainer.predict` collects and does not log; training's values and pairs stay."""
    metrics = StepMetrics()
    metrics.begin_step()
    metrics.add("train", value(5.0), 4)
    metrics.add_pairs("train", *healthy_pairs())
    metrics.add("eval", value(100.0), 7)
    metrics.add_pairs("eval", *collapsed_pairs(8))
    metrics.begin_evaluation()
    metrics.add("eval", value(2.0), 4)
    metrics.add_pairs("eval", torch.eye(8), torch.eye(8), torch.arange(8))
    summary, _ = metrics.summary("eval", accelerator)
    assert summary["eval_jepa_loss"] == 2.0
    assert summary["eval_jepa_cosine_unpaired"] == pytest.approx(0.0)
    train_summary, _ = metrics.summary("train", accelerator)
    assert train_summary["jepa_loss"] == 5.0
    assert train_summary["jepa_effective_rank"] == pytest.approx(64, rel=1e-4)


def test_names_begin_with_the_prefix_of_their_evaluation(accelerator: Accelerator):
    """One of several evaluation sets."""
    metrics = StepMetrics()
    metrics.add("eval", value(2.0), 4)
    metrics.add_pairs("eval", *healthy_pairs())
    summary, _ = metrics.summary("eval", accelerator, "eval_hard")
    assert summary.keys() == {
        "eval_hard_jepa_loss",
        "eval_hard_jepa_cosine_unpaired",
        "eval_hard_jepa_effective_rank",
        "eval_hard_jepa_retrieval_at_1",
    }


# --- two processes


def _summaries_of_one_of_two() -> None:
    """Runs, in a process of its own, the cases of the tests below one after another."""
    rank = int(os.environ["RANK"])
    # A process that does not take part in a collective must fail the test, not halt it.
    accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=60))])
    assert accelerator.num_processes == 2
    summaries = {}

    ragged = StepMetrics()
    ragged.add("eval", value((2.0, 7.0)[rank]), (4, 1)[rank])
    summaries["ragged evaluation"] = ragged.summary("eval", accelerator)

    one_sided = StepMetrics()
    if rank == 0:
        one_sided.add("eval", value(3.0), 2)
        one_sided.begin_step()
        one_sided.add("train", {"lm_loss": torch.tensor(8.0)}, 2)
    summaries["evaluation of one process"] = one_sided.summary("eval", accelerator)
    summaries["step of one process"] = one_sided.summary("train", accelerator)
    summaries["nothing"] = one_sided.summary("train", accelerator)

    steps = StepMetrics()
    for number in ((1.0, 2.0), (5.0, 8.0))[rank]:
        steps.begin_step()
        steps.add("train", value(number), 2)
    summaries["two steps"] = steps.summary("train", accelerator)

    collapsed = StepMetrics()
    collapsed.begin_step()
    collapsed.add("train", value(0.0), 64)
    collapsed.add_pairs("train", *(collapsed_pairs() if rank == 0 else healthy_pairs()))
    summaries["collapse"] = collapsed.summary("train", accelerator)

    Path(f"{rank}.json").write_text(json.dumps(summaries))
    accelerator.end_training()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Each process's summaries, as [metrics, warning] by case."""
    directory = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert fork_ranks(2, _summaries_of_one_of_two) == [0, 0], said_by_ranks()
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("ragged evaluation", {"eval_jepa_loss": 3.0}),  # (2 * 4 + 7 * 1) / 5 rows
        ("evaluation of one process", {"eval_jepa_loss": 3.0}),
        ("step of one process", {"lm_loss": 4.0}),  # a share is twice its part of the step, as there are two processes
        ("two steps", {"jepa_loss": 4.0}),  # ((1 + 5) / 2 + (2 + 8) / 2) / 2 steps
        ("nothing", {}),
    ],
)
def test_processes_agree_on_the_mean_over_all_of_them(of_two_processes: list[dict], case: str, expected: dict):
    """A process without rows takes part; each row has the same weight on any process."""
    assert [summaries[case] for summaries in of_two_processes] == [[expected, None]] * 2


def test_main_process_alone_warns_of_collapse_and_its_diagnostics_are_everyones(of_two_processes: list[dict]):
    """Early stopping and the best checkpoint are decided by metrics that all processes agree on."""
    (main, main_warning), (other, other_warning) = (summaries["collapse"] for summaries in of_two_processes)
    assert "collapsed" in main_warning
    assert other_warning is None
    assert main == other
    assert main["jepa_effective_rank"] == pytest.approx(1.0, abs=1e-4)
