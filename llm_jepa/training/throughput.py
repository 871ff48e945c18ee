"""Throughput of training: tokens and FLOPs per second, utilisation of the GPU's peak FLOPs, peak memory."""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import TrainerCallback

from llm_jepa.compute.devices import GIB, TERA, recognise_gpu
from llm_jepa.compute.flops import ModelSize, StepCounts, step_flops
from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.layouts import LaidOut
from llm_jepa.training.running_sums import widened


class Throughput(TrainerCallback):
    """Measures the tokens and the time of training steps, from the loading of a step's data to its end.

    Evaluations and checkpoints between steps are left out. The device is waited for only at a log.

    Args:
        size: Sizes of the model, from which the FLOPs of a step are counted (`llm_jepa.compute.flops`).
        extra_flops: Those of an objective that `step_flops` does not know; None for none.
        peak_flops_per_second: Of one device; None if unknown.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        size: ModelSize,
        peak_flops_per_second: float | None,
        clock: Callable[[], float] = time.perf_counter,
        extra_flops: Callable[[StepCounts, ModelSize], float] | None = None,
    ):
        self.size = size
        self.extra_flops = extra_flops
        self.peak_flops_per_second = peak_flops_per_second
        self.clock = clock
        self._begin_seconds: float | None = None
        self._seconds = 0.0
        self._tokens: float | Tensor = 0.0
        self._flops: float | Tensor = 0.0

    def begin_step(self) -> None:
        """Begin a step, before its data are loaded."""
        self._begin_seconds = self.clock()

    def add(self, batch: dict[str, Any], drops_jepa: bool) -> None:
        """Count one micro-batch of the step."""
        counts = count_batch(batch, drops_jepa)
        self._tokens = self._tokens + widened(torch.as_tensor(counts.conversation_tokens))
        extra = 0.0 if drops_jepa or self.extra_flops is None else self.extra_flops(counts, self.size)
        self._flops = self._flops + widened(torch.as_tensor(step_flops(counts, self.size) + extra))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """End a step, after the optimizer's."""
        if self._begin_seconds is not None:
            self._seconds += self.clock() - self._begin_seconds
            self._begin_seconds = None

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """Metrics of the steps since the last summary; empty if there were none. Every process must call this.

        `tokens_per_second` counts the tokens of conversations on all devices. `tflops_per_second` and
        `flop_utilisation`, its share of the peak if that is known, are means per device. `peak_memory_gib` is the
        largest of any device, or on CPUs of any process.
        """
        own = float(self._tokens), float(self._flops), peak_memory_bytes(accelerator.device)
        tokens, flops, peaks = zip(*gather_object([own]), strict=True)
        if sum(tokens) == 0 or self._seconds == 0:
            return {}
        metrics = {
            "tokens_per_second": sum(tokens) / self._seconds,
            "tflops_per_second": sum(flops) / len(flops) / self._seconds / TERA,
            "peak_memory_gib": max(peaks) / GIB,
        }
        if self.peak_flops_per_second is not None:
            metrics["flop_utilisation"] = metrics["tflops_per_second"] * TERA / self.peak_flops_per_second
        self._tokens = self._flops = self._seconds = 0.0
        return metrics


def count_batch(batch: dict[str, Any], drops_jepa: bool) -> StepCounts:
    """Count the tokens of a micro-batch in the forward. Those of the conversations are counted on the device."""
    conversation_tokens = batch["attention_mask"].sum()
    laid_out: LaidOut | None = batch.get("laid_out_conversations" if drops_jepa else "laid_out")
    if laid_out is None:
        labels = (batch["labels"][:, 1:] != IGNORED_LABEL).sum()
        return StepCounts(conversation_tokens, conversation_tokens, 0, labels)
    stored = laid_out.batch
    labels = len(stored.label_positions_M)
    target_tokens: Any = laid_out.uncomputed_target_tokens  # on the device too
    return StepCounts(
        conversation_tokens,
        stored.num_tokens,
        laid_out.detached_tokens,
        labels,
        uncomputed_targets=laid_out.uncomputed_targets,
        uncomputed_target_tokens=target_tokens,
    )


def device_peak_flops_per_second(device: torch.device, is_half: bool) -> float | None:
    """Peak FLOPs per second of a GPU in `llm_jepa.compute.devices`; None for other devices."""
    if device.type != "cuda":
        return None
    gpu = recognise_gpu(torch.cuda.get_device_name(device))
    if gpu is None:
        return None
    return gpu.peak_flops_per_second(is_half, torch.backends.cuda.matmul.allow_tf32)


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that tensors have taken on a GPU, or the process elsewhere, since training began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
