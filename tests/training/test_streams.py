"""A stream is trained in passes of whole steps, and a resumed run goes on with the rows that come next."""

from datasets import Dataset
from transformers import TrainerCallback

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer
from tests.trainers import PAIR_COLUMNS, assert_same_weights, settings, weights


def stream_trainer(tmp_path, rows, **overrides) -> JEPATrainer:
    options = {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1, **PAIR_COLUMNS}
    callbacks = overrides.pop("callbacks", [])
    return JEPATrainer(
        tiny_llama(attention_dropout=0.2),
        JEPAConfig(**settings(tmp_path, **options | overrides)),
        train_dataset=Dataset.from_list(rows).to_iterable_dataset(),
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
