"""The parts of the loss and the diagnostics, in logs, trackers and evaluations."""

import logging

import pytest
from datasets import Dataset
from transformers import TrainerCallback

from tests.tiny import PAIRS, tiny_llama
from tests.trainers import (
    jepa_trainer,
    step_losses,
)

pytestmark = pytest.mark.usefixtures("deterministic")


def test_logs_hold_the_parts_and_the_diagnostics_beside_trls_own(tmp_path):
    trainer = jepa_trainer(tmp_path, eval_dataset=Dataset.from_list(PAIRS[:5]), eval_strategy="steps", eval_steps=2)
    trainer.train()
    ours = {"loss", "lm_loss", "jepa_loss", "jepa_cosine", "jepa_cosine_unpaired", "jepa_effective_rank"}
    trls = {"entropy", "mean_token_accuracy", "num_tokens", "grad_norm", "learning_rate"}
    first, evaluation = trainer.state.log_history[0], next(e for e in trainer.state.log_history if "eval_loss" in e)
    assert ours | trls | {"jepa_retrieval_at_1"} <= first.keys()
    parts = {f"eval_{name}" for name in ours - {"loss", "lm_loss"}} | {"eval_jepa_retrieval_at_1"}
    assert parts | {"eval_loss"} <= evaluation.keys()


class _Tracker(TrainerCallback):
    """Records what a tracker of `report_to` receives."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_a_tracker_is_given_the_parts_and_the_diagnostics(tmp_path):
    tracker = _Tracker()
    jepa_trainer(tmp_path, callbacks=[tracker]).train()
    wanted = {"loss", "lm_loss", "jepa_loss", "jepa_cosine", "jepa_cosine_unpaired", "jepa_retrieval_at_1"}
    assert [wanted - logs.keys() for logs in tracker.seen[:3]] == [set()] * 3


def test_evaluate_returns_the_jepa_parts_so_that_the_best_checkpoint_can_go_by_them(tmp_path):
    metrics = jepa_trainer(tmp_path, eval_dataset=Dataset.from_list(PAIRS)).evaluate()
    assert metrics["eval_jepa_cosine"] == pytest.approx(1 - metrics["eval_jepa_loss"], abs=1e-6)


def test_each_evaluation_set_is_logged_under_its_own_name_and_a_prediction_is_part_of_none(tmp_path):
    sets = {"first": Dataset.from_list(PAIRS[:3]), "second": Dataset.from_list(PAIRS[3:])}
    trainer = jepa_trainer(tmp_path, eval_dataset=sets, prediction_loss_only=True)
    expected = trainer.evaluate()
    assert {f"eval_{name}_{part}" for name in sets for part in ("jepa_loss", "jepa_cosine_unpaired")} <= set(expected)
    assert "eval_jepa_loss" not in expected
    trainer.predict(trainer.train_dataset)
    after = trainer.evaluate()
    for name in ("eval_first_jepa_loss", "eval_second_jepa_loss", "eval_first_jepa_effective_rank"):
        assert after[name] == pytest.approx(expected[name], rel=1e-6)


def test_evaluations_and_predictions_keep_the_rows_that_training_drops(tmp_path):
    """Of 3 rows in micro-batches of 2, the mean counts the last one too."""
    options = {"per_device_eval_batch_size": 2, "dataloader_drop_last": True, "prediction_loss_only": True}
    trainer, rows = jepa_trainer(tmp_path, **options), Dataset.from_list(PAIRS[:3])
    evaluated = trainer.evaluate(rows)["eval_jepa_loss"]
    each = [trainer.evaluate(rows.select([index]))["eval_jepa_loss"] for index in range(3)]
    assert evaluated == pytest.approx(sum(each) / 3, rel=1e-5)
    assert len(trainer.get_test_dataloader(trainer.train_dataset.select(range(3)))) == 2
    assert trainer.args.dataloader_drop_last


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_predict_takes_the_rows_that_evaluate_takes(tmp_path, weight):
    """Raw ones, and ones that are prepared already."""
    trainer = jepa_trainer(tmp_path, jepa_weight=weight, prediction_loss_only=True)
    expected = trainer.evaluate(Dataset.from_list(PAIRS))["eval_loss"]
    for rows in (Dataset.from_list(PAIRS), trainer.train_dataset):
        assert trainer.predict(rows).metrics["test_loss"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"Row 0: the target is empty"):
        trainer.predict(Dataset.from_list([{"source": "a", "target": ""}]))


def test_eval_loss_is_the_lm_loss_of_the_same_weights(tmp_path):
    rows = Dataset.from_list(PAIRS[:4])
    arms = [jepa_trainer(tmp_path, eval_dataset=rows, jepa_weight=weight) for weight in (0.0, 1.0)]
    losses = [trainer.evaluate()["eval_loss"] for trainer in arms]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_logging_interval_averages_over_its_steps(tmp_path):
    every = jepa_trainer(tmp_path, max_steps=4, logging_steps=1)
    pairs = jepa_trainer(tmp_path, max_steps=4, logging_steps=2)
    for trainer in (every, pairs):
        trainer.train()
    for name in ("loss", "lm_loss", "jepa_loss", "jepa_cosine"):
        single = step_losses(every, name)
        assert step_losses(pairs, name)[:2] == pytest.approx([sum(single[:2]) / 2, sum(single[2:4]) / 2], rel=1e-5)


def test_collapsed_embeddings_are_warned_of_once(tmp_path, caplog):
    """Layers that add nothing: an embedding is that of the view's last token, which all targets have in common."""
    model = tiny_llama()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    rows = [PAIRS[0] | {"target": f"{number} {PAIRS[0]['target']}"} for number in range(72)]
    options = {"per_device_train_batch_size": 24, "max_steps": 5, "learning_rate": 0.0}
    with caplog.at_level(logging.WARNING, logger="llm_jepa.trainer"):
        jepa_trainer(tmp_path, rows, model, **options).train()
    warnings = [record for record in caplog.records if "collapsed" in record.message]
    assert len(warnings) == 1
    assert "effective rank 1.00" in warnings[0].message


def test_rows_of_one_target_are_no_collapse(tmp_path, caplog):
    """They have one embedding whatever was learned, and no unpaired cosine."""
    with caplog.at_level(logging.WARNING, logger="llm_jepa.trainer"):
        trainer = jepa_trainer(tmp_path, [PAIRS[0]] * 72, per_device_train_batch_size=24, max_steps=4)
        trainer.train()
    assert not any("collapsed" in record.message for record in caplog.records)
    assert "jepa_cosine_unpaired" not in trainer.state.log_history[0]
