"""The peak of the process is that of its block, what was freed included."""

import time

import numpy as np
import psutil
import pytest
import torch

from llm_jepa.evaluation.peak_memory import SAMPLE_SECONDS, PeakMemory

BLOCK_BYTES = 2**28


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at the GPU's tensors")
def test_what_was_taken_and_freed_is_in_the_peak_of_its_block_alone():
    before = psutil.Process().memory_info().rss
    with PeakMemory() as memory:
        block = np.ones(BLOCK_BYTES, dtype=np.uint8)
        time.sleep(10 * SAMPLE_SECONDS)
        del block
    assert 0.9 * BLOCK_BYTES < memory.peak_bytes - before < 1.5 * BLOCK_BYTES
    with PeakMemory() as later:
        pass
    assert later.peak_bytes < memory.peak_bytes - 0.5 * BLOCK_BYTES
