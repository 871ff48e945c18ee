"""`StreamTrainer`: trains on a stream in passes of whole steps."""

from datasets import IterableDataset

from llm_jepa.training.measured import MeasuredTrainer


class StreamTrainer(MeasuredTrainer):
    """Leaves out the micro-batches at the end of a pass that fill no step, as nobody knows beforehand which is last.

    transformers would add their gradients to those of the next pass's first step. Data sets of known length train as
    in transformers: their last step of an epoch has fewer micro-batches.
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
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) == num_batches or not self.is_stream:
            return batches, num_items_in_batch
        if self.state.global_step == 0:
            raise ValueError(
                f"The training data, a stream, end after {len(batches)} micro-batches, and a step takes "
                f"{num_batches} (`gradient_accumulation_steps`). Set it or `per_device_train_batch_size` lower, or "
                "give more rows."
            )
        self.control.should_epoch_stop = True  # else transformers asks for `max_steps` steps more
        return [], None
