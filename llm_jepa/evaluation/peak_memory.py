"""The peak memory of a piece of work: of tensors on a GPU, of the whole process without one."""

import threading

import psutil
import torch

SAMPLE_SECONDS = 0.02
"""A peak of the process that is shorter than this can be missed."""


class PeakMemory:
    """Watches the memory while its block runs.

    On a GPU it is the most that torch's tensors took, the model's included. Without one it is the most that was
    resident of the process, libraries included, looked at every 0.02 seconds.

    Attributes:
        peak_bytes: The peak so far.
    """

    def __enter__(self) -> "PeakMemory":
        self._has_gpu = torch.cuda.is_available()
        if self._has_gpu:
            torch.cuda.reset_peak_memory_stats()
            return self
        self._process, self._stop = psutil.Process(), threading.Event()
        self._resident_bytes = self._process.memory_info().rss
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_gpu:
            self._stop.set()
            self._watcher.join()

    @property
    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self._has_gpu else self._resident_bytes

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._resident_bytes = max(self._resident_bytes, self._process.memory_info().rss)
