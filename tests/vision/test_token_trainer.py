"""A token VLM takes the steps of a plain loop, by the mean over the answers' tokens, and resumes exactly."""

import pytest
import torch
from datasets import Dataset

from llm_jepa.vision.config import VisionConfig
from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_trainer import TokenVLMTrainer
from tests.vision.test_trainer import SETTINGS
from tests.vision.tiny_parts import colour_rows, tiny_token_vlm


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    return [row | {"answer": row["answer"] * (1 + i % 3)} for i, row in enumerate(colour_rows(tmp_path))]


def new_trainer(output_dir, rows, **options) -> TokenVLMTrainer:
    args = VisionConfig(output_dir=str(output_dir), answer_form="tokens", **SETTINGS | options)
    evaluated = Dataset.from_list(rows) if args.eval_strategy != "no" else None
    return TokenVLMTrainer(tiny_token_vlm(sees_images=args.sees_images), args, Dataset.from_list(rows), evaluated)


def row_losses(model, rows) -> tuple[list[torch.Tensor], int]:
    """The loss of each row alone, and the number of tokens of all answers."""
    losses, num_tokens = [], 0
    for row in rows:
        (inputs,) = model.read_batches([row["image"]], [row["question"]], batch_size=1)
        ids, mask = model.processor.answers([row["answer"]], 512)
        losses.append(answer_loss(model(**inputs, answer_ids=ids, answer_mask=mask).logits_NAV, ids, mask)[0].sum())
        num_tokens += len(model.processor.answer_ids([row["answer"]])[0])
    return losses, num_tokens


@pytest.mark.parametrize("batch", [{"per_device_train_batch_size": 10},
                                   {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}])  # fmt: skip
def test_a_step_is_that_of_the_mean_over_the_tokens_of_all_its_rows(batch, rows, tmp_path):
    """Also of micro-batches of 4, 4 and 2 rows, whose answers differ in length."""
    rows = rows[:10]
    model = tiny_token_vlm()
    losses, num_tokens = row_losses(model, rows)
    mean = sum(losses) / num_tokens
    mean.backward()
    trainer = new_trainer(tmp_path / "run", rows, max_steps=1, optim="sgd", **batch)
    trainer.train()
    for (name, value), before in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        moved = 0 if before.grad is None else before.grad * 1e-2
        torch.testing.assert_close(value, before - moved, atol=1e-6, rtol=1e-4, msg=name)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(mean.item(), rel=1e-4)


def test_it_learns_the_answers_and_the_evaluation_says_so(rows, tmp_path):
    trainer = new_trainer(tmp_path / "run", rows, max_steps=40, eval_strategy="steps", eval_steps=40)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"] / 4
    assert after["eval_answer_token_accuracy"] > 0.8
    assert trainer.state.log_history[0]["answer_token_accuracy"] < after["eval_answer_token_accuracy"]


def test_a_resumed_run_is_the_run_that_never_stopped(rows, tmp_path):
    options = {"max_steps": 4, "lr_scheduler_type": "linear"}
    whole = new_trainer(tmp_path / "whole", rows, save_strategy="steps", save_steps=2, **options)
    whole.train()
    resumed = new_trainer(tmp_path / "resumed", rows, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    for (name, mine), its in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, its), name


def test_one_row_a_batch_and_a_blind_arm_train(rows, tmp_path):
    """No row is compared with another."""
    blind = [{key: value for key, value in row.items() if key != "image"} for row in rows]
    trainer = new_trainer(tmp_path / "run", blind, inputs="question", per_device_train_batch_size=1)
    trainer.train()
    assert [entry["loss"] > 0 for entry in trainer.state.log_history if "loss" in entry] == [True, True]


def test_an_answer_beyond_the_limit_is_refused(rows, tmp_path):
    """With the end of text, which the row must not lose."""
    longest = max(len(tiny_token_vlm().processor.answer_ids([row["answer"]])[0]) for row in rows)
    with pytest.raises(ValueError, match=f"max_answer_tokens: {longest - 1}"):
        new_trainer(tmp_path / "run", rows, max_answer_tokens=longest - 1)
    new_trainer(tmp_path / "run", rows, max_answer_tokens=longest)
