"""GPUs by name: memory and peak rate of matrix products, from the makers' data sheets. The processor's name.

Rates are dense (no structured sparsity), with accumulation in float32. Imports nothing of the package.
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
TERA = 1e12


@dataclass(frozen=True)
class GPU:
    """One kind of GPU.

    Attributes:
        memory_bytes: Nominal memory; drivers and contexts use some of it.
        half_flops_per_second: Rate in bf16, or in fp16 without bf16.
        tf32_flops_per_second: Rate of float32 products in TF32, or in float32 without TF32.
        single_flops_per_second: Rate of float32 products without TF32.
        has_bf16: Whether the GPU computes in bf16.
        name_words: Words that CUDA's name of the GPU must contain.
    """

    memory_bytes: float
    half_flops_per_second: float
    tf32_flops_per_second: float
    single_flops_per_second: float
    has_bf16: bool
    name_words: tuple[str, ...]

    def peak_flops_per_second(self, is_half: bool, has_tf32: bool) -> float:
        """The peak rate in the precision of the training."""
        if is_half:
            return self.half_flops_per_second
        return self.tf32_flops_per_second if has_tf32 else self.single_flops_per_second


def _gpu(gib: float, half: float, tf32: float, single: float, *name_words: str, has_bf16: bool = True) -> GPU:
    """A GPU from its memory in GiB and its rates in TFLOP/s."""
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
"""Words in a name that mean a part of a GPU, or another GPU."""


def find_gpu(name: str) -> GPU:
    """The GPU of a name in `GPUS`.

    Raises:
        ValueError: The name is unknown. The message lists the known ones.
    """
    if name.lower() not in GPUS:
        raise ValueError(f"The GPU {name!r} is unknown. Known are {', '.join(GPUS)}.")
    return GPUS[name.lower()]


def recognise_gpu(reported_name: str) -> GPU | None:
    """The GPU of a name that CUDA reports, e.g. `NVIDIA H100 80GB HBM3`; None if it is not in `GPUS`."""
    words = {*re.findall(r"\w+", reported_name)}
    if words & OTHER_GPU_WORDS:
        return None
    return next((gpu for gpu in GPUS.values() if words >= {*gpu.name_words}), None)


def processor_name() -> str:
    """The processor by its maker's name, or by its architecture where no name is known."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()
