"""When a checkpoint is written, so that nothing is lost: when a run is asked to end, and after an epoch's last log."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from transformers import Trainer, TrainerCallback

logger = logging.getLogger(__name__)


class Terminated(SystemExit):
    """The run was asked to end by a signal, and its checkpoint is saved."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(128 + by)


class CheckpointMoments(TrainerCallback):
    """Decides at the end of a step, in all processes alike, whether and when a checkpoint is written.

    After a signal to any process it is written at the end of the step under way, and `Terminated` raised in all.
    One that falls on the last step of an epoch, or of all, waits for what is logged and evaluated then: resumed from
    before that, the run would leave it out, and go on with another random state.
    """

    def __init__(self, accelerator: Accelerator):
        self.asked_by: signal.Signals | None = None
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
            by = self.asked_by or signal.SIGTERM  # none: another process was asked
            if state.is_world_process_zero:
                logger.warning(f"{by.name}: checkpoint-{state.global_step} {use}.")
            raise Terminated(by)

    def _is_any_asked_to_end(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self.asked_by is not None
        if self.asked_by is not None:
            self._accelerator.set_trigger()
        return self._accelerator.check_trigger()


@contextmanager
def saved_when_asked_to_end(trainer: Trainer) -> Iterator[None]:
    """While it lasts, SIGTERM and Ctrl-C end the training by a checkpoint; when no step is left, it is finished first.

    A second Ctrl-C ends it at once. transformers' `enable_jit_checkpoint` is no help: its processes stop at steps of
    their own, which hangs; it saves before what the step logs, or in the middle of a step, whose random numbers are
    drawn already; and it returns as if the run were complete.
    """
    moments = CheckpointMoments(trainer.accelerator)
    trainer.add_callback(moments)

    def ask_to_end(number: int, _: object) -> None:
        moments.asked_by = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
            if trainer.is_world_process_zero():
                logger.warning("Ctrl-C: the step under way is finished and saved. Once more ends it at once.")

    previous = {number: signal.signal(number, ask_to_end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        trainer.remove_callback(moments)
