"""What training reaches on its device: tokens and FLOPs per second, the share of a GPU's peak, the peak of memory."""

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


class Throughput(TrainerCallback):
    """Counts the tokens of training steps and their time, from the loading of a step's data to its end.

    Evaluations and checkpoints between steps are left out. No device is waited for before it is time to log.

    Args:
        size: Of the model, for its FLOPs: those that a step cannot do without (`llm_jepa.compute.flops`).
        peak_flops_per_second: Of one device, None if it is not known.
        clock: Gives seconds.
    """

    def __init__(
        self, size: ModelSize, peak_flops_per_second: float | None, clock: Callable[[], float] = time.perf_counter
    ):
        self.size = size
        self.peak_flops_per_second = peak_flops_per_second
        self.clock = clock
        self._begin_seconds: float | None = None
        self._seconds = 0.0
        self._tokens: list[Tensor] = []
        self._flops: list[Tensor] = []

    def begin_step(self) -> None:
        """The loading of a step's data begins."""
        self._begin_seconds = self.clock()

    def add(self, batch: dict[str, Any], drops_jepa: bool) -> None:
        """Count one micro-batch of the step."""
        counts = count_batch(batch, drops_jepa)
        self._tokens.append(torch.as_tensor(counts.conversation_tokens))
        self._flops.append(torch.as_tensor(step_flops(counts, self.size)))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """The optimizer's step is done."""
        if self._begin_seconds is not None:
            self._seconds += self.clock() - self._begin_seconds
            self._begin_seconds = None

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """Metrics of the steps since the last summary, empty without any; every process must call this.

        `tokens_per_second` counts the conversations' tokens on all devices; `tflops_per_second` and
        `flop_utilisation`, its share of the peak where that is known, are of one device on average;
        `peak_memory_gib` is the largest of a device, and on a CPU of a process.
        """
        own = float(sum(self._tokens)), float(sum(self._flops)), peak_memory_bytes(accelerator.device)
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
        self._tokens, self._flops, self._seconds = [], [], 0.0
        return metrics


def count_batch(batch: dict[str, Any], drops_jepa: bool) -> StepCounts:
    """Tokens of a micro-batch as the forward gets them; those of the conversations are counted on its device."""
    conversation_tokens = batch["attention_mask"].sum()
    laid_out: LaidOut | None = batch.get("laid_out_conversations" if drops_jepa else "laid_out")
    if laid_out is None:
        labels = (batch["labels"][:, 1:] != IGNORED_LABEL).sum()
        return StepCounts(conversation_tokens, conversation_tokens, 0, labels)
    stored = laid_out.batch
    labels = len(stored.label_positions_M)
    return StepCounts(conversation_tokens, stored.num_tokens, laid_out.detached_tokens, labels)


def known_peak(device: torch.device, is_half: bool) -> float | None:
    """Peak FLOPs per second of a device, if it is a GPU of the table."""
    if device.type != "cuda":
        return None
    gpu = recognise_gpu(torch.cuda.get_device_name(device))
    if gpu is None:
        return None
    return gpu.peak_flops_per_second(is_half, torch.backends.cuda.matmul.allow_tf32)


def peak_memory_bytes(device: torch.device) -> int:
    """The most that tensors have taken of a GPU since training began; elsewhere, that the process has taken."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
