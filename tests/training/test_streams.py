"""A stream is trained in passes of whole steps, and a resumed run goes on with the rows that come next."""

import pytest
from datasets import Dataset, concatenate_datasets
from transformers import TrainerCallback

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer
from tests.trainers import PAIR_COLUMNS, assert_same_weights, jepa_trainer, settings, step_losses, weights
from tests.training.test_interruption import OF_THIS_SESSION


def stream_trainer(tmp_path, *shards, **overrides) -> JEPATrainer:
    options = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1, **PAIR_COLUMNS}
    callbacks = overrides.pop("callbacks", [])
    return JEPATrainer(
        tiny_llama(attention_dropout=0.2),
        JEPAConfig(**settings(tmp_path, **options | overrides)),
        train_dataset=concatenate_datasets([Dataset.from_list(rows).to_iterable_dataset() for rows in shards]),
        eval_dataset=Dataset.from_list(PAIRS[:2]),
        processing_class=tiny_tokenizer(),
        callbacks=callbacks,
    )


class AtMostThreePasses(TrainerCallback):
    def __init__(self):
        self.num_passes = 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.num_passes += 1
        assert self.num_passes <= 3, f"pass {self.num_passes} begins after step {state.global_step}"


def test_a_run_whose_last_step_is_done_ends_when_it_is_resumed(tmp_path):
    whole = stream_trainer(tmp_path, PAIRS[:4])
    whole.train()
    done = stream_trainer(tmp_path, PAIRS[:4], callbacks=[AtMostThreePasses()])
    done.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert done.state.global_step == 3
    assert_same_weights(weights(done.model), weights(whole.model))


def test_micro_batches_that_fill_no_step_are_left_out(tmp_path):
    """Each pass trains the first 2 of 3 micro-batches, as a stream of these alone does."""
    options = {"gradient_accumulation_steps": 2, "save_strategy": "no"}
    short = stream_trainer(tmp_path, PAIRS[:4], **options)
    short.train()
    long = stream_trainer(tmp_path, PAIRS[:6], **options)
    long.train()
    assert step_losses(long) == step_losses(short)
    assert step_losses(long, "num_tokens") == step_losses(short, "num_tokens")
    assert_same_weights(weights(long.model), weights(short.model))


def test_the_end_of_a_pass_is_met_once(tmp_path):
    """However many steps are to come."""
    trainer = stream_trainer(tmp_path, PAIRS[:4], max_steps=6, save_strategy="no")
    asked, get_batch_samples = [], trainer.get_batch_samples
    trainer.get_batch_samples = lambda *args: asked.append(trainer.state.global_step) or get_batch_samples(*args)
    trainer.train()
    assert asked == [0, 1, 2, 2, 3, 4, 4, 5]


def test_a_stream_without_a_whole_step_is_refused(tmp_path):
    trainer = stream_trainer(tmp_path, PAIRS[:2], gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="a stream, end after 1 micro-batches, and a step takes 2"):
        trainer.train()


def test_a_last_micro_batch_that_is_not_full_is_left_out_if_asked(tmp_path):
    """Of 3 rows a pass trains the first 2, as a stream of these alone does; InfoNCE could not compare the third."""
    options = {"jepa_loss": "info_nce", "dataloader_drop_last": True, "save_strategy": "no"}
    short = stream_trainer(tmp_path, PAIRS[:2], **options)
    short.train()
    long = stream_trainer(tmp_path, PAIRS[:3], **options)
    long.train()
    assert step_losses(long) == step_losses(short)
    assert_same_weights(weights(long.model), weights(short.model))


def test_an_incomplete_micro_batch_of_a_worker_ends_no_pass(tmp_path):
    """Two workers read shards of 3 and 5 rows: 1 and 2 micro-batches of two rows, and a row left of each.

    The first worker's row comes before the second's last micro-batch, which is the third of the first pass.
    """
    options = {"dataloader_drop_last": True, "dataloader_num_workers": 2, "max_steps": 3, "save_strategy": "no"}
    trainer = stream_trainer(tmp_path, PAIRS[:3], PAIRS[3:8], **options)
    trainer.train()
    assert trainer.state.epoch == 1


def test_a_data_set_of_known_length_trains_its_last_micro_batches_too(tmp_path):
    trainer = jepa_trainer(tmp_path, PAIRS[:6], per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["epoch"] for entry in steps] == pytest.approx([2 / 3, 1, 5 / 3])


@pytest.mark.parametrize(
    ("accumulation", "saving", "steps"), [(1, "steps", [2, 3, 5, 6]), (2, "steps", [2, 3]), (1, "epoch", [3, 6])]
)
def test_a_resumed_run_goes_on_with_the_next_rows(accumulation, saving, steps, tmp_path):
    """From within a pass and from its end, the logs, evaluations and weights are those of the whole run."""
    options = {
        "gradient_accumulation_steps": accumulation,
        "save_strategy": saving,
        "max_steps": 8 // accumulation,
        "eval_strategy": "epoch",
        "shuffle_dataset": True,
        "jepa_dropout": 0.3,
    }
    whole = stream_trainer(tmp_path, PAIRS[:6], **options)
    whole.train()
    assert sum("eval_loss" in entry for entry in whole.state.log_history) >= 2
    for step in steps:
        resumed = stream_trainer(tmp_path / "resumed", PAIRS[:6], **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert logged(resumed) == logged(whole), step
        assert_same_weights(weights(resumed.model), weights(whole.model))


def logged(trainer) -> list[dict]:
    return [
        {name: entry[name] for name in entry if not name.endswith(OF_THIS_SESSION)}
        for entry in trainer.state.log_history
    ]


def test_a_run_with_more_steps_goes_on_with_the_next_rows(tmp_path):
    """The place in the stream is that of the run that saved it."""
    stream_trainer(tmp_path, PAIRS[:6], max_steps=4).train()
    more = stream_trainer(tmp_path, PAIRS[:6], max_steps=8)
    place = more._init_training_state(8, 8, 100, str(tmp_path / "checkpoint-4"), None)
    assert place == (1, 1)
