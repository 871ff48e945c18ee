"""When a checkpoint is written, so that nothing is lost: at SIGTERM, and after what the end of an epoch logs."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)


class Terminated(SystemExit):
    """The run was asked to end by SIGTERM, and its checkpoint is saved."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class CheckpointMoments(TrainerCallback):
    """Decides at the end of a step, in all processes alike, whether and when a checkpoint is written.

    After a SIGTERM to any process it is written at the end of the step under way, and `Terminated` raised in all.
    One that falls on the last step of an epoch, or of all, waits for what is logged and evaluated then: resumed from
    before that, the run would leave it out, and go on with another random state.
    """

    def __init__(self, accelerator: Accelerator):
        self.is_asked_to_end = False
        self._accelerator = accelerator
        self._ends = False
        self._is_due = False

    def on_step_end(self, args, state, control, **kwargs):
        self._ends = self._is_any_asked_to_end()
        control.should_save |= self._ends
        if state.epoch.is_integer() or state.global_step >= state.max_steps:
            self._is_due, control.should_save = control.should_save, False

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self._is_due
        self._is_due = False

    def on_save(self, args, state, control, **kwargs):
        if self._ends:
            use = "holds weights alone" if args.save_only_model else "is saved; the same command goes on from it"
            if state.is_world_process_zero:
                logger.warning(f"SIGTERM: checkpoint-{state.global_step} {use}.")
            raise Terminated

    def _is_any_asked_to_end(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self.is_asked_to_end
        if self.is_asked_to_end:
            self._accelerator.set_trigger()
        return self._accelerator.check_trigger()


@contextmanager
def saved_at_sigterm(trainer: Trainer) -> Iterator[None]:
    """While it lasts, SIGTERM ends the training by a checkpoint; when no step is left, the work is finished first.

    transformers' `enable_jit_checkpoint` is no help: its processes stop at steps of their own, which hangs; it saves
    before what the step logs, or in the middle of a step, whose random numbers are drawn already; and it returns as if
    the run were complete.
    """
    moments = CheckpointMoments(trainer.accelerator)
    trainer.add_callback(moments)

    def ask_to_end(*_: object) -> None:
        moments.is_asked_to_end = True

    previous = signal.signal(signal.SIGTERM, ask_to_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        trainer.remove_callback(moments)
