"""What the trainer logs of the JEPA objective: the parts of the loss, and diagnostics of the pairs."""

from collections import Counter
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from llm_jepa.objectives.diagnostics import REMEDY, PairBuffer, collapse_warning
from llm_jepa.training.running_sums import widened


def num_new_rows(accelerator: Accelerator, num_rows: int) -> int:
    """How many rows of this process's micro-batch the evaluation has not seen before; they are the first.

    accelerate ends an evaluation with its first rows again, so that all processes have as many; in a stream of unknown
    length they are not told apart. Example: of 5 rows in micro-batches of 2, the last two processes get 4, 0 and 1, 2:
    1 row and none are new.
    """
    remainder = accelerator.gradient_state.remainder
    if accelerator.num_processes == 1 or not accelerator.gradient_state.end_of_dataloader or remainder <= 0:
        return num_rows
    return min(max(remainder - accelerator.process_index * num_rows, 0), num_rows)


class StepMetrics:
    """Sums values during steps and evaluations, and summarises them for a log.

    Sums stay on the device until then, one for each name, however long that is. In training a value is a micro-batch's
    share of its step. The mean over steps is the sum of the values divided by the steps that had one since the last
    log; steps that dropped the JEPA term have no `jepa_loss`. In evaluation a value is a batch's mean over rows.

    Args:
        collapse_remedy: What the warning of collapsed pairs advises.
    """

    def __init__(self, collapse_remedy: str = REMEDY):
        self.collapse_remedy = collapse_remedy
        self._sums: dict[str, dict[str, Tensor]] = {"train": {}, "eval": {}}
        self._pairs = {"train": PairBuffer(), "eval": PairBuffer()}
        self._counts = {"train": Counter[str](), "eval": Counter[str]()}  # name -> steps or rows with a value
        self._names_of_step: set[str] = set()
        self._modes_with_new_pairs: set[str] = set()
        self._has_warned = False

    def begin_step(self) -> None:
        """Begin a step; a step without values, at the end of a stream, does not count."""
        self._names_of_step.clear()

    def begin_evaluation(self) -> None:
        """Begin an evaluation, and drop the values of one that was never logged."""
        self._sums["eval"].clear()
        self._counts["eval"].clear()
        self._pairs["eval"].clear()

    def add(self, mode: str, values: dict[str, Tensor], num_rows: int) -> None:
        """Add the values of one micro-batch of `num_rows` rows."""
        sums, counts, is_eval = self._sums[mode], self._counts[mode], mode == "eval"
        for name, value in values.items():
            weighted = widened(value.detach()) * (num_rows if is_eval else 1)
            sums[name] = sums[name] + weighted if name in sums else weighted
            counts[name] += num_rows if is_eval else name not in self._names_of_step
            self._names_of_step.add(name)

    def add_pairs(self, mode: str, prediction_ND: Tensor, target_ND: Tensor, target_key_N: Tensor) -> None:
        """Add the pairs of one micro-batch. `target_key_N` is equal for rows with the same target."""
        self._pairs[mode].append(prediction_ND, target_ND, target_key_N)
        self._modes_with_new_pairs.add(mode)

    def state(self) -> dict[str, Any]:
        """What a checkpoint saves of this process: the training sums since the last log, and the pairs."""
        return {
            "sums": dict(self._sums["train"]),
            "counts": dict(self._counts["train"]),
            "pairs": self._pairs["train"].batches(),
            "has_new_pairs": "train" in self._modes_with_new_pairs,
            "has_warned": self._has_warned,
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore a `state`."""
        self._sums["train"] = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts["train"] = Counter(state["counts"])
        self._pairs["train"].clear()
        for batch in state["pairs"]:
            self._pairs["train"].append(*(tensor.to(device) for tensor in batch))
        self._modes_with_new_pairs = {"train"} if state["has_new_pairs"] else set()
        self._has_warned = state["has_warned"]

    def summary(
        self, mode: str, accelerator: Accelerator, prefix: str = "eval"
    ) -> tuple[dict[str, float], str | None]:
        """Metrics since the last summary and, on the main process, a warning the first time pairs collapse.

        This is a collective operation: every process must call it, with or without values, and all get the same
        metrics. In training, where a value is scaled by the number of processes, a metric is the mean over steps and
        processes; in evaluation, over the rows of all processes. The diagnostics describe the pairs of the main
        process. The names of an evaluation's metrics begin with `prefix`.
        """
        sums, counts, diagnostics = zip(*gather_object([self._take(mode)]), strict=True)
        names = dict.fromkeys(name for process_sums in sums for name in process_sums)
        if not names:
            return {}, None
        metrics = {}
        for name in names:
            per_process = [process_counts[name] for process_counts in counts]
            count = max(per_process) * accelerator.num_processes if mode == "train" else sum(per_process)
            metrics[name] = sum(process_sums.get(name, 0.0) for process_sums in sums) / count
        metrics |= diagnostics[0]
        if mode == "eval":
            return {f"{prefix}_{name}": value for name, value in metrics.items()}, None
        return metrics, self._warning(metrics) if accelerator.is_main_process else None

    def _take(self, mode: str) -> tuple[dict[str, float], Counter[str], dict[str, float]]:
        """Take this process's sums, counts and diagnostics, and clear them; the pairs of training are kept."""
        on_device = self._sums[mode]
        totals = torch.stack(list(on_device.values())).tolist() if on_device else []
        sums = dict(zip(on_device, totals, strict=True))
        counts = self._counts[mode].copy()
        # If all steps dropped the JEPA term, the buffer holds older pairs, which have been logged.
        diagnostics = self._pairs[mode].summary() if mode in self._modes_with_new_pairs else {}
        self._modes_with_new_pairs.discard(mode)
        if mode == "train":
            on_device.clear()
            self._counts[mode].clear()
        else:
            self.begin_evaluation()
        return sums, counts, diagnostics

    def _warning(self, metrics: dict[str, float]) -> str | None:
        pairs = self._pairs["train"]
        if self._has_warned or len(pairs) < pairs.min_pairs or "jepa_cosine_unpaired" not in metrics:
            return None
        warning = collapse_warning(
            metrics["jepa_cosine_unpaired"], metrics["jepa_effective_rank"], pairs.num_targets, self.collapse_remedy
        )
        self._has_warned = warning is not None
        return warning
