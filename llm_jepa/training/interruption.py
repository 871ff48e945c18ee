"""When a checkpoint is written, so that nothing is lost: after a signal, and after the last log of an epoch."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)


class Terminated(SystemExit):
    """A signal has ended the run, and its checkpoint is saved."""

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)


class CheckpointTiming(TrainerCallback):
    """Decides at the end of a step, the same in all processes, whether and when a checkpoint is written.

    After a signal to any process, the checkpoint is written at the end of the current step, and all processes raise
    `Terminated`. The checkpoint of an epoch's last step, or of the run's, is written after the logs and the evaluation
    there: a run resumed from before them would skip them and continue with another random state.
    """

    def __init__(self, accelerator: Accelerator):
        self.received: signal.Signals | None = None
        self._accelerator = accelerator
        self._is_ending = False
        self._is_due = False

    def on_step_end(self, args, state, control, **kwargs):
        self._is_ending = self._any_process_received_signal()
        control.should_save |= self._is_ending
        if state.epoch.is_integer() or state.global_step >= state.max_steps:
            self._is_due, control.should_save = control.should_save, False

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self._is_due
        self._is_due = False

    def on_save(self, args, state, control, **kwargs):
        if self._is_ending:
            use = "holds weights alone" if args.save_only_model else "is saved; the same command resumes from it"
            received = self.received or signal.SIGTERM  # None: another process received it
            if state.is_world_process_zero:
                logger.warning(f"{received.name}: checkpoint-{state.global_step} {use}.")
            raise Terminated(received)

    def _any_process_received_signal(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self.received is not None
        if self.received is not None:
            self._accelerator.set_trigger()
        return self._accelerator.check_trigger()


@contextmanager
def checkpoint_on_signal(trainer: Trainer) -> Iterator[None]:
    """Within the context, SIGTERM and Ctrl-C save a checkpoint and end the training; if no step is left, it finishes.

    A second Ctrl-C ends it at once. transformers' `enable_jit_checkpoint` is not used: its processes stop at different
    steps and hang; it saves before the step's logs, or within a step, after random numbers were drawn; and it returns
    as if the run were complete.
    """
    timing = CheckpointTiming(trainer.accelerator)
    trainer.add_callback(timing)

    def receive(number: int, _: object) -> None:
        timing.received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
            if trainer.is_world_process_zero():
                logger.warning("Ctrl-C: the current step is finished and saved. Press it again to end at once.")

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        trainer.remove_callback(timing)
