"""`MeasuredTrainer`: logs what `step_metrics` sums, evaluates every row, stops before a step that is not finite."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from llm_jepa.objectives.base import Place
from llm_jepa.training.step_metrics import StepMetrics

logger = logging.getLogger(__name__)


class MeasuredTrainer(Trainer):
    """Adds `step_metrics` to the logs. A subclass sums into it what it computes of each micro-batch.

    `dataloader_drop_last` drops rows in training alone; transformers drops them in evaluation too.
    """

    model: Any  # transformers allows None, before there is a model
    step_metrics: StepMetrics

    @property
    def mode(self) -> Literal["train", "eval"]:
        """Whether the model trains or is evaluated."""
        return "train" if self.model.training else "eval"

    def place(self) -> Place:
        """Where a micro-batch stands. In evaluation, draws are those of step 0."""
        args, is_training = self.args, self.mode == "train"
        return Place(
            max_rows=args.train_batch_size if is_training else args.eval_batch_size,
            rank=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            seed=args.seed,
            step=self.state.global_step if is_training else 0,
        )

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None):
        """Return the gradient's norm; check it and the step's losses before the optimizer uses them."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        self._check_losses()
        # The gradient scaler of fp16 expects infinite gradients and skips such steps.
        if not self.args.fp16 and grad_norm is not None and not math.isfinite(grad_norm):
            self._raise_non_finite(f"gradient's norm is {float(grad_norm)}")
        return grad_norm

    def _check_losses(self) -> None:
        """Raise if a loss of the step is not finite, in a subclass that keeps them."""

    def _raise_non_finite(self, what: str) -> NoReturn:
        raise FloatingPointError(
            f"The {what} in step {self.state.global_step + 1}. Training has stopped; the last checkpoint in "
            f"{self.args.output_dir} is kept. Lower the learning rate."
        )

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """That of `Trainer`, with every row."""
        with every_row_kept(self.args):
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """That of `Trainer`, with every row."""
        with every_row_kept(self.args):
            return super().get_test_dataloader(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """Evaluate as `Trainer` does, without the values of a prediction, which is never logged."""
        self.step_metrics.begin_evaluation()
        return super().evaluation_loop(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the parts of the loss and the diagnostics too."""
        rate = "_samples_per_second"  # only logs of an evaluation have it, after their prefix
        prefix = next((key.removesuffix(rate) for key in logs if key.endswith(rate)), "eval")
        metrics, warning = self.step_metrics.summary(self.mode, self.accelerator, prefix)
        if warning is not None:
            logger.warning(warning)
        logs.update(metrics)  # in place, as TRL does: `metric_for_best_model` may name one of ours
        super().log(logs, start_time)


@contextmanager
def every_row_kept(args: TrainingArguments) -> Iterator[None]:
    """Build data loaders that keep an incomplete last batch meanwhile."""
    drops_last, args.dataloader_drop_last = args.dataloader_drop_last, False
    try:
        yield
    finally:
        args.dataloader_drop_last = drops_last
