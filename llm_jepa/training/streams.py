"""`StreamTrainer`: trains on a stream in passes of whole steps, and resumes at its place in them."""

import math
from pathlib import Path

from datasets import IterableDataset
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from llm_jepa.training.measured import MeasuredTrainer


class StreamTrainer(MeasuredTrainer):
    """Leaves out the micro-batches at the end of a pass that fill no step, as nobody knows beforehand which is last.

    transformers would add their gradients to those of the next pass's first step. Data sets of known length train as
    in transformers: their last step of an epoch has fewer micro-batches. `dataloader_drop_last` leaves out the
    micro-batches that are not full; transformers ignores it in streams.

    `state.epoch` is the place in a stream: the passes done, plus the micro-batches of the current one / (`max_steps` *
    `gradient_accumulation_steps`).
    """

    @property
    def is_stream(self) -> bool:
        """Whether the number of training rows is unknown."""
        return isinstance(self.train_dataset, IterableDataset)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Collect the micro-batches of a step; of a stream none at the end of a pass.

        Raises:
            ValueError: A pass has no whole step.
        """
        if self.is_stream and self.args.dataloader_drop_last:  # each worker of a loader ends with one of its own
            size = self.args.train_batch_size
            epoch_iterator = (batch for batch in epoch_iterator if len(batch["row_index"]) == size)
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) == num_batches or not self.is_stream:
            return batches, num_items_in_batch
        if self.state.global_step == 0:
            raise ValueError(
                f"The training data, a stream, end after {len(batches)} micro-batches, and a step takes "
                f"{num_batches} (`gradient_accumulation_steps`). Set it or `per_device_train_batch_size` lower, or "
                "give more rows."
            )
        self.state.epoch = float(math.ceil(self.state.epoch))
        self.control.should_epoch_stop = True  # else transformers asks for `max_steps` steps more
        return [], None

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        """Restore the state; returns the passes done and the micro-batches of the current one.

        transformers takes a stream to be a single pass.
        """
        place = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None or not self.is_stream:
            return place
        saved = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        share, num_passes = math.modf(saved.epoch)
        num_batches = round(share * saved.max_steps * self.args.gradient_accumulation_steps)
        return int(num_passes), 0 if self.args.ignore_data_skip else num_batches
