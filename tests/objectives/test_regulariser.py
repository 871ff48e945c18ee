"""The regulariser in the trainer: what is added, with which weight, and through which view."""

import pytest
import torch
from torch import Tensor

from llm_jepa import JEPAConfig
from llm_jepa.objectives.draws import unit_directions
from llm_jepa.objectives.losses import OtherRows, sigreg_loss, vicreg_loss
from llm_jepa.objectives.registry import new_objective
from llm_jepa.objectives.regulariser import NUM_DIRECTIONS, regulariser_loss
from tests.objectives.test_objectives import logged, trainer_of

KINDS = ["sigreg", "vicreg"]


def views(seed: int, rows: int = 5, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))


def term_of_step(kind: str, embedding_ND: Tensor, seed: int, step: int) -> Tensor:
    if kind == "vicreg":
        return vicreg_loss(embedding_ND)
    return sigreg_loss(embedding_ND, unit_directions(seed, step, NUM_DIRECTIONS, embedding_ND.shape[1], "cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mean_over_both_views(kind):
    pair = views(0)
    expected = sum(term_of_step(kind, view_ND, 9, 2) for view_ND in pair) / 2
    torch.testing.assert_close(regulariser_loss(kind, *pair, None, 9, 2), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detached_target_gets_no_gradient_and_the_prediction_the_same_as_before(kind):
    """Half of its own view's term; the target's is a number beside it."""
    prediction_ND, target_ND = (view_ND.requires_grad_() for view_ND in views(1))
    regulariser_loss(kind, prediction_ND, target_ND.detach(), None, 0, 0).backward()
    assert target_ND.grad is None
    (alone_ND,) = torch.autograd.grad(term_of_step(kind, prediction_ND, 0, 0) / 2, prediction_ND)
    torch.testing.assert_close(prediction_ND.grad, alone_ND)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_other_processes_count_and_padding_does_not(kind):
    """Two processes of three and two rows, padded to three: both compute the number of all five rows."""
    pair, keys = views(2), torch.zeros(6, dtype=torch.long)
    everything = [torch.cat([view_ND, view_ND[:1] * 0 + 7]) for view_ND in pair]
    expected = regulariser_loss(kind, *pair, None, 4, 1)
    for own, others in ((slice(0, 3), [False] * 3 + [True, True, False]), (slice(3, 5), [True] * 3 + [False] * 3)):
        gathered = OtherRows(*everything, keys, torch.tensor(others))
        actual = regulariser_loss(kind, *(view_ND[own] for view_ND in pair), gathered, 4, 1)
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_distance_plus_the_weighted_term(kind, tmp_path):
    """At the first step, where no weight has moved: the same distance, and the logged term with its weight."""
    plain = trainer_of(tmp_path, max_steps=1)
    plain.train()
    trainer = trainer_of(tmp_path, max_steps=1, jepa_regulariser=kind, regulariser_weight=0.5)
    trainer.train()
    (distance,), (total,), (term,) = (
        logged(run, name)
        for run, name in ((plain, "jepa_loss"), (trainer, "jepa_loss"), (trainer, "jepa_regulariser"))
    )
    assert term > 0
    assert total == pytest.approx(distance + 0.5 * term, rel=1e-5)
    assert logged(plain, "jepa_regulariser") == [None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_zero_is_the_plain_objective_with_the_term_in_the_log(kind, tmp_path):
    """Every weight bit for bit."""
    plain = trainer_of(tmp_path)
    watched = trainer_of(tmp_path, jepa_regulariser=kind, regulariser_weight=0.0)
    for trainer in (plain, watched):
        trainer.train()
    assert logged(watched, "jepa_loss") == logged(plain, "jepa_loss")
    assert None not in logged(watched, "jepa_regulariser")
    expected = plain.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in watched.model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_training_with_it_lowers_it(kind, tmp_path):
    """By a fifth at least, beside a watched run that it does not train."""
    options = {"jepa_regulariser": kind, "max_steps": 12, "per_device_train_batch_size": 8}
    trained = trainer_of(tmp_path, **options, regulariser_weight=1.0)
    watched = trainer_of(tmp_path, **options, regulariser_weight=0.0)
    for trainer in (trained, watched):
        trainer.train()
    assert logged(trained, "jepa_regulariser")[-1] < 0.8 * logged(watched, "jepa_regulariser")[-1]


def test_an_evaluation_logs_the_term_by_the_directions_of_step_0(tmp_path):
    trainer = trainer_of(tmp_path, jepa_regulariser="sigreg", eval_strategy="no")
    rows = trainer.train_dataset
    first, second = (trainer.evaluate(rows)["eval_jepa_regulariser"] for _ in range(2))
    assert first == second > 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"jepa_regulariser": "sigreg"}, "jepa_regulariser: sigreg"),
        ({"jepa_objective": "tube"}, "jepa_objective: tube"),
        ({"jepa_objective": ["tube", "pair"], "objective_weights": [1, 1]}, r"jepa_objective: \[tube, pair\]"),
    ],
)
def test_draws_on_a_device_without_float64_are_refused(options, named, tmp_path):
    objective = new_objective(JEPAConfig(str(tmp_path), use_cpu=True, **options))
    with pytest.raises(ValueError, match=f"`{named}` draws in float64, which MPS lacks"):
        objective.check("mps", None, None)


def test_without_draws_there_is_nothing_to_refuse(tmp_path):
    new_objective(JEPAConfig(str(tmp_path), use_cpu=True, jepa_regulariser="vicreg", dataloader_drop_last=True)).check(
        "mps", None, None
    )
