"""What the trainer logs of the JEPA objective: parts of the loss summed per step, and the pairs' diagnostics."""

from collections import defaultdict

import torch
from accelerate import Accelerator
from torch import Tensor

from llm_jepa.diagnostics import PairBuffer, collapse_message


class StepMetrics:
    """Collects during steps and evaluations, and summarises when it is time to log.

    Values stay on the device as tensors until then. In training a value is a micro-batch's share of its step, so the
    mean over steps is their sum divided by the steps since the last log; in evaluation it is a batch's mean over rows.
    """

    def __init__(self):
        self._values: dict[str, dict[str, list[Tensor]]] = {
            "train": defaultdict(list),
            "eval": defaultdict(list),
        }
        self._pairs = {"train": PairBuffer(), "eval": PairBuffer()}
        self._steps, self._is_new_step = 0, False
        self._eval_rows = 0
        self._has_warned = False

    def begin_step(self) -> None:
        """The training values that follow are of a new step. A step without any, as a stream ends, does not count."""
        self._is_new_step = True

    def add(self, mode: str, values: dict[str, Tensor], num_rows: int) -> None:
        """Add the values of one micro-batch of so many rows."""
        if mode == "eval":
            self._eval_rows += num_rows
        elif self._is_new_step:
            self._steps, self._is_new_step = self._steps + 1, False
        weight = num_rows if mode == "eval" else 1
        for name, value in values.items():
            self._values[mode][name].append(value.detach() * weight)

    def add_pairs(self, mode: str, prediction_ND: Tensor, target_ND: Tensor) -> None:
        """Add the pairs of one micro-batch."""
        self._pairs[mode].append(prediction_ND, target_ND)

    def summary(self, mode: str, accelerator: Accelerator) -> tuple[dict[str, float], str | None]:
        """Metrics since the last summary, averaged over processes, and a warning the first time pairs collapse.

        The diagnostics are of the pairs of the main process.
        """
        values, pairs = self._values[mode], self._pairs[mode]
        if not values:
            return {}, None
        count = self._steps if mode == "train" else self._eval_rows
        means = torch.stack([torch.stack(seen).sum() / count for seen in values.values()])
        means = accelerator.reduce(means, reduction="mean")
        metrics = dict(zip(values, means.tolist(), strict=True)) | pairs.summary()
        values.clear()
        if mode == "eval":
            self._eval_rows = 0
            pairs.clear()
            return {f"eval_{name}": value for name, value in metrics.items()}, None
        self._steps = 0
        return metrics, self._warning(metrics)

    def _warning(self, metrics: dict[str, float]) -> str | None:
        pairs = self._pairs["train"]
        if self._has_warned or len(pairs) < pairs.min_pairs:
            return None
        warning = collapse_message(metrics["jepa_cosine_unpaired"], metrics["jepa_effective_rank"])
        self._has_warned = warning is not None
        return warning
