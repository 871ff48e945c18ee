"""GPUs by name: their memory and the peak of their matrix products, from the makers' data sheets.

Rates are dense (no structured sparsity) and of products that accumulate in float32. Imports nothing of the package.
"""

import re
from dataclasses import dataclass

GIB = 2**30
TERA = 1e12


@dataclass(frozen=True)
class GPU:
    """One kind of GPU.

    Attributes:
        memory_bytes: Nominal; drivers and contexts take some of it.
        half_flops_per_second: Products of bf16, or of fp16 where there is no bf16.
        tf32_flops_per_second: Products of float32 by TF32, where there is TF32; else those of float32.
        single_flops_per_second: Products of float32 as it is.
        has_bf16: Whether it multiplies bf16.
        name_words: Words that its name as CUDA reports it has, all of them.
    """

    memory_bytes: float
    half_flops_per_second: float
    tf32_flops_per_second: float
    single_flops_per_second: float
    has_bf16: bool
    name_words: tuple[str, ...]

    def peak_flops_per_second(self, is_half: bool, has_tf32: bool) -> float:
        """In the precision that a training multiplies in."""
        if is_half:
            return self.half_flops_per_second
        return self.tf32_flops_per_second if has_tf32 else self.single_flops_per_second


def _gpu(gib: float, half: float, tf32: float, single: float, *name_words: str, has_bf16: bool = True) -> GPU:
    """Memory in GiB, rates in TFLOP a second."""
    return GPU(gib * GIB, half * TERA, tf32 * TERA, single * TERA, has_bf16, name_words)


GPUS: dict[str, GPU] = {
    "t4-16gb": _gpu(16, 65, 8.1, 8.1, "T4", has_bf16=False),
    "v100-16gb": _gpu(16, 125, 15.7, 15.7, "V100", "16GB", has_bf16=False),
    "v100-32gb": _gpu(32, 125, 15.7, 15.7, "V100", "32GB", has_bf16=False),
    "l4-24gb": _gpu(24, 121, 60, 30.3, "L4"),
    "a10-24gb": _gpu(24, 125, 62.5, 31.2, "A10"),
    "rtx-3090-24gb": _gpu(24, 71, 35.6, 35.6, "RTX", "3090"),
    "rtx-4090-24gb": _gpu(24, 165.2, 82.6, 82.6, "RTX", "4090"),
    "rtx-5090-32gb": _gpu(32, 209.5, 104.8, 104.8, "RTX", "5090"),
    "l40s-48gb": _gpu(48, 362, 183, 91.6, "L40S"),
    "rtx-a6000-48gb": _gpu(48, 154.8, 77.4, 38.7, "RTX", "A6000"),
    "a100-40gb": _gpu(40, 312, 156, 19.5, "A100", "40GB"),
    "a100-80gb": _gpu(80, 312, 156, 19.5, "A100", "80GB"),
    "h100-pcie-80gb": _gpu(80, 756, 378, 51, "H100", "PCIe"),
    "h100-80gb": _gpu(80, 989, 494.5, 67, "H100", "80GB"),
    "h200-141gb": _gpu(141, 989, 494.5, 67, "H200"),
    "b200-180gb": _gpu(180, 2250, 1125, 80, "B200"),
    "mi300x-192gb": _gpu(192, 1307, 653.7, 163.4, "MI300X"),
}

OTHER_GPU_WORDS = {"MIG", "Laptop", "Ti", "SUPER", "D", "NVL", "Ada"}
"""Words by which a name is that of a part of a GPU, or of another one."""


def find_gpu(name: str) -> GPU:
    """A GPU by the name that it has here.

    Raises:
        ValueError: The name is unknown; the message lists the known ones.
    """
    if name.lower() not in GPUS:
        raise ValueError(f"The GPU {name!r} is unknown. Known are {', '.join(GPUS)}.")
    return GPUS[name.lower()]


def recognise_gpu(reported_name: str) -> GPU | None:
    """The GPU that CUDA reports under a name, e.g. `NVIDIA H100 80GB HBM3`; None if it is not in the table."""
    words = {*re.findall(r"\w+", reported_name)}
    if words & OTHER_GPU_WORDS:
        return None
    return next((gpu for gpu in GPUS.values() if words >= {*gpu.name_words}), None)
