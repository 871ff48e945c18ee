"""Training takes the steps of a plain loop, resumes as if it had never stopped, and refuses what it cannot learn."""

import logging
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.rows import answer_key
from llm_jepa.vision.trainer import VLJEPATrainer
from tests.vision.tiny_parts import COLOURS, colour_rows, picture, tiny_model

SETTINGS = {
    "per_device_train_batch_size": 6,
    "max_steps": 2,
    "logging_steps": 1,
    "learning_rate": 1e-2,
    "max_grad_norm": 0.0,
    "save_strategy": "no",
    "lr_scheduler_type": "constant",
    "disable_tqdm": True,
}
COLOUR_PICTURES = {name: picture(colour) for name, colour in COLOURS.items()}
TEXT_WEIGHT = "text_encoder.encoder.layer.0.output.dense.weight"


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return colour_rows(tmp_path)


def new_trainer(output_dir: Path, rows: list[dict], model: VLJEPAModel | None = None, **options) -> VLJEPATrainer:
    args = VisionConfig(output_dir=str(output_dir), **SETTINGS | options)
    model = model or tiny_model(trains_temperature=args.trains_temperature, sees_images=args.sees_images)
    evaluated = Dataset.from_list(rows) if args.eval_strategy != "no" else None
    return VLJEPATrainer(model, args, Dataset.from_list(rows), evaluated)


def slow_gradients(model: VLJEPAModel, rows: list[dict], temperature: float = 0.07) -> dict[str, torch.Tensor]:
    """Of the mean over rows of InfoNCE both ways, each row computed alone."""
    predictions, targets = [], []
    for row in rows:
        pixels = model.processor.pixels([[COLOUR_PICTURES[row["answer"]]]])
        questions, answers = (
            model.processor.questions([row["question"]], 512),
            model.processor.answers([row["answer"]], 512),
        )
        outputs = model(pixels, None, *questions, *answers)
        predictions.append(outputs.prediction_NE[0])
        targets.append(outputs.target_NE[0])
    total = torch.zeros(())
    for queries, candidates in ((predictions, targets), (targets, predictions)):
        for i, query in enumerate(queries):
            scores = [
                cosine_similarity(query, candidate, 0) / temperature
                for j, candidate in enumerate(candidates)
                if i == j or answer_key(rows[i]["answer"]) != answer_key(rows[j]["answer"])
            ]
            own = cosine_similarity(query, candidates[i], 0) / temperature
            total = total + torch.logsumexp(torch.stack(scores), 0) - own
    model.zero_grad()
    (total / 2 / len(rows)).backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return gradients


def test_a_step_is_that_of_a_loop_over_rows(rows, tmp_path):
    """By plain SGD the weights move by rate x gradient; the text encoder's by 0.05 of that."""
    rows = [*rows[:5], {**rows[0], "question": "what?"}]  # two rows with the answer red
    reference = tiny_model()
    before = {name: value.detach().clone() for name, value in reference.named_parameters()}
    gradients = slow_gradients(reference, rows)
    trainer = new_trainer(tmp_path / "run", rows, tiny_model(), max_steps=1, optim="sgd")
    trainer.train()
    for name, value in trainer.model.named_parameters():
        rate = 1e-2 * (0.05 if name.startswith("text_encoder") else 1)
        moved = gradients.get(name, torch.zeros(())) * rate
        torch.testing.assert_close(value, before[name] - moved, atol=1e-6, rtol=1e-4, msg=name)


def test_micro_batches_are_normalised_by_the_rows_of_the_step(rows, tmp_path):
    """A step of micro-batches of 4, 4 and 2 rows has the gradient of the 10 rows' mean, by cosine."""
    runs = []
    for name, batch in (("one", {"per_device_train_batch_size": 10}),
                        ("three", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3})):  # fmt: skip
        options = batch | {"max_steps": 1, "optim": "sgd", "jepa_loss": "cosine"}
        trainer = new_trainer(tmp_path / name, rows[:10], tiny_model(), **options)
        trainer.train()
        runs.append(trainer)
    for (name, mine), its in zip(runs[0].model.named_parameters(), runs[1].model.parameters(), strict=True):
        torch.testing.assert_close(mine, its, msg=name, atol=1e-6, rtol=1e-5)
    assert runs[0].state.log_history[0]["loss"] == pytest.approx(runs[1].state.log_history[0]["loss"], rel=1e-5)
    logged = [run.state.log_history[0]["jepa_cosine"] for run in runs]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)
    assert logged[0] == pytest.approx(1 - runs[0].state.log_history[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"trains_temperature": True, "vision_encoder_learning_rate_factor": 0.1}])
def test_a_resumed_run_is_the_run_that_never_stopped(options, rows, tmp_path):
    """With the rate of each encoder, in the optimizer and in what is logged."""
    options = options | {"max_steps": 4, "lr_scheduler_type": "linear", "logging_steps": 3}
    tuned = {"trains_vision_encoder": "vision_encoder_learning_rate_factor" in options}

    def trainer(name, **more):
        model = tiny_model(trains_temperature=bool(options.get("trains_temperature")), **tuned)
        return new_trainer(tmp_path / name, rows, model, **options, **more)

    whole = trainer("whole", save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for (name, mine), its in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(mine, its[1]), name
    rates = {group["initial_lr"] for group in resumed.optimizer.param_groups if group["params"]}
    assert rates == {1e-2, 1e-2 * 0.05, *([1e-3] if tuned["trains_vision_encoder"] else [])}
    logs = [
        [
            {key: value for key, value in entry.items() if "runtime" not in key and "per_second" not in key}
            for entry in log
        ]
        for log in (whole.state.log_history[:1], resumed.state.log_history[:1])
    ]
    assert logs[0] == logs[1]


def test_a_frozen_text_encoder_stays_as_it_is_and_the_temperature_learns(rows, tmp_path):
    model = tiny_model(trains_text_encoder=False, trains_temperature=True)
    before = model.state_dict()[TEXT_WEIGHT].clone()
    options = {"text_encoder_learning_rate_factor": 0.0, "trains_temperature": True, "weight_decay": 0.5}
    trainer = new_trainer(tmp_path / "run", rows, model, **options)
    trainer.train()
    assert torch.equal(model.state_dict()[TEXT_WEIGHT], before)
    assert not any(module.training for module in model.text_encoder.modules())
    log = trainer.state.log_history
    assert log[0]["temperature"] == pytest.approx(0.07)
    assert log[1]["temperature"] != pytest.approx(0.07)
    decayed = trainer.get_decay_parameter_names(model)
    assert "log_temperature" not in decayed
    assert "projector.weight" in decayed


def test_cached_features_train_what_pictures_train(rows, tmp_path):
    """To float16; each of the 6 pictures is encoded once."""
    runs = []
    for name, options in (("plain", {}), ("cached", {"feature_cache": str(tmp_path / "cache")})):
        trainer = new_trainer(tmp_path / name, rows, **options, eval_strategy="steps", eval_steps=2)
        trainer.train()
        runs.append(trainer)
    assert len([*(tmp_path / "cache").glob("*/*.npy")]) == len(COLOURS)
    assert "image" not in runs[1].train_dataset.column_names
    for mine, its in zip(*(run.state.log_history for run in runs), strict=True):
        for key in mine.keys() & {"loss", "jepa_cosine", "eval_loss", "eval_recall_at_1"}:
            assert mine[key] == pytest.approx(its[key], rel=2e-2, abs=2e-2), key


def test_evaluation_ranks_the_answers_strictly(rows, tmp_path):
    trainer = new_trainer(tmp_path / "run", rows, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=5,
                          max_steps=40, metric_for_best_model="recall_at_1")  # fmt: skip
    before = trainer.evaluate()
    model = trainer.model
    predictions = model.predict([row["image"] for row in rows], [row["question"] for row in rows])
    answers = list(COLOURS)
    targets = model.encode_text(answers)
    hits = 0
    for row, prediction in zip(rows, predictions, strict=True):
        score = {name: cosine_similarity(prediction, target, 0) for name, target in zip(answers, targets, strict=True)}
        hits += all(score[row["answer"]] > score[other] for other in answers if other != row["answer"])
    assert before["eval_recall_at_1"] == pytest.approx(hits / len(rows))
    trainer.train()
    assert trainer.evaluate()["eval_recall_at_1"] > 0.8


def test_a_gradient_that_is_not_finite_stops_the_run(rows, tmp_path):
    trainer = new_trainer(tmp_path, rows)
    trainer.model.prediction_head.weight.data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"gradient's norm is nan in step 1\. .* Lower the learning rate"):
        trainer.train()


def test_collapse_is_said_once(rows, tmp_path, caplog):
    """All predictions and targets equal: the heads' weights are 0 and their biases alone are left."""
    model = tiny_model()
    with torch.no_grad():
        for head in (model.prediction_head, model.target_head):
            head.weight.zero_()
            head.bias.fill_(1.0)
    trainer = new_trainer(tmp_path / "run", rows, model, max_steps=16, learning_rate=0.0)
    with caplog.at_level(logging.WARNING, "llm_jepa"):
        trainer.train()
    assert caplog.text.count("The embeddings have collapsed") == 1
    assert "text_encoder_learning_rate_factor" in caplog.text


def test_a_saved_run_is_a_model(rows, tmp_path):
    trainer = new_trainer(tmp_path / "run", rows)
    trainer.train()
    trainer.save_model()
    again = VLJEPAModel.from_pretrained(tmp_path / "run")
    inputs = [row["image"] for row in rows], [row["question"] for row in rows]
    trainer.model.eval()
    torch.testing.assert_close(again.predict(*inputs), trainer.model.predict(*inputs))
    assert "log_temperature" in load_file(tmp_path / "run" / "model.safetensors")


def test_a_target_encoder_that_tells_nothing_apart_is_refused(rows, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.text_encoder.encoder.layer[-1].output.LayerNorm.weight.zero_()
        model.text_encoder.encoder.layer[-1].output.LayerNorm.bias.fill_(1.0)
    with pytest.raises(ValueError, match="gives 6 different answers the same embedding"):
        new_trainer(tmp_path / "run", rows, model)


def test_answers_that_are_all_equal_are_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="All 12 answers of the training data are 'yes'"):
        new_trainer(tmp_path / "run", [row | {"answer": "yes"} for row in rows])


def test_micro_batches_of_one_answer_leave_the_model_as_it_is_and_are_said_once(rows, tmp_path, caplog):
    rows = [row | {"answer": "yes"} for row in rows] * 10 + [rows[0]]
    trainer = new_trainer(tmp_path / "run", rows, dataloader_drop_last=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with caplog.at_level(logging.WARNING, "llm_jepa"):
        trainer.train()
    logged = [
        [one[key] for key in ("loss", "grad_norm", "jepa_without_negatives")] for one in trainer.state.log_history[:2]
    ]
    assert logged == [[0.0, 0.0, 1.0]] * 2
    assert caplog.text.count("InfoNCE taught nothing") == 1
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_micro_batch_of_one_row_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match=r"`per_device_train_batch_size` is 1; .* needs at least 2"):
        new_trainer(tmp_path / "run", rows, per_device_train_batch_size=1)


def test_draws_on_a_device_without_float64_are_refused(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(VisionConfig, "device", torch.device("mps"))
    with pytest.raises(ValueError, match="`jepa_regulariser: sigreg` draws in float64, which MPS lacks"):
        new_trainer(tmp_path, rows, jepa_regulariser="sigreg")


def test_the_blind_arm_trains_without_pictures(rows, tmp_path):
    blind = [{key: value for key, value in row.items() if key != "image"} for row in rows]
    trainer = new_trainer(tmp_path / "run", blind, inputs="question")
    trainer.train()
    assert [entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry] == [True, True]
