"""`ResumableTrainer`: resumes from a checkpoint as if it had never stopped; `ResumableSFTTrainer`: so does TRL's."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTTrainer

from llm_jepa.training.checkpoints import invalidate, write_manifest
from llm_jepa.training.running_sums import RunningSum
from llm_jepa.training.streams import StreamTrainer
from llm_jepa.training.write_errors import write_errors_explained


class ResumableTrainer(StreamTrainer):
    """Adds the log window and a manifest to transformers' checkpoints.

    The log window is what has been accumulated since the last log: the running loss and `step_metrics`. transformers
    does not save it, and would start it anew. A run whose last step is done is not trained further.
    """

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output_dir = Path(str(self.args.output_dir))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            invalidate(output_dir / name)
        with write_errors_explained(name, output_dir):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """Write each process's random state and log window, the last files of a checkpoint; then the manifest."""
        super()._save_rng_state(output_dir)
        torch.save(self._log_window(), self._log_window_path(output_dir))
        self.accelerator.wait_for_everyone()  # before the main process makes the checkpoint whole
        if self.args.should_save:
            write_manifest(Path(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            path = self._log_window_path(checkpoint)
            self._restore_log_window(torch.load(path, map_location="cpu", weights_only=True))

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train an epoch, if a step is left: transformers takes one more when it resumes after the last."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True  # a stream has epochs without end

    def _log_window_path(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"log_window_{self.args.process_index}.pt"

    def _log_window(self) -> dict[str, Any]:
        return {
            "loss": self._tr_loss,
            "last_logged_step": self._globalstep_last_logged,
            "step_metrics": self.step_metrics.state(),
        }

    def _restore_log_window(self, window: dict[str, Any]) -> None:
        self._tr_loss = window["loss"].to(self.args.device)
        # `train_loss` is the mean over the steps of this start alone, and the window's were taken before.
        self._total_loss_scalar -= self.accelerator.reduce(self._tr_loss, reduction="mean").item()
        self._globalstep_last_logged = window["last_logged_step"]
        self.step_metrics.restore(window["step_metrics"], self.args.device)


class ResumableSFTTrainer(ResumableTrainer, SFTTrainer):
    """Adds TRL's metrics and its count of tokens to the log window."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # TRL keeps each micro-batch's values to the next log, which may never come.
        self._metrics = {mode: defaultdict(RunningSum) for mode in self._metrics}  # type: ignore[arg-type]

    def _log_window(self) -> dict[str, Any]:
        return super()._log_window() | {
            "trl_metrics": {name: (sum(seen), len(seen)) for name, seen in self._metrics["train"].items()},
            "num_tokens": self._total_train_tokens,
        }

    def _restore_log_window(self, window: dict[str, Any]) -> None:
        super()._restore_log_window(window)
        self._metrics["train"].update({name: RunningSum(*seen) for name, seen in window["trl_metrics"].items()})
        self._total_train_tokens = window["num_tokens"]
