"""Print what a bug report needs: versions, platform, devices and commit; no paths and no names."""

import argparse
import importlib.metadata
import os
import platform

from llm_jepa.runs.record import toolkit_commit

PACKAGES = (
    "llm-jepa", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "huggingface-hub",
    "bitsandbytes", "deepspeed", "flash-attn", "kernels", "liger-kernel", "vllm", "sentence-transformers", "trackio",
)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    lines = {"python": platform.python_version()}
    lines |= {name: _version(name) for name in PACKAGES}
    release = platform.release().partition("-")[0]  # what follows may be named after its owner
    lines["platform"] = " ".join((platform.system(), release, platform.machine(), *platform.libc_ver()))
    lines["cores"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    lines["commit"] = toolkit_commit() or "not a git checkout"
    for name, value in lines.items():
        print(f"{name}: {value}")
    for line in _devices():
        print(line, flush=True)
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[str]:
    import torch  # last: it takes seconds

    if torch.cuda.is_available():
        runtime = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found = [f"device: {one.name}, {one.total_memory / 2**30:.0f} GiB" for one in properties]
        return [f"runtime: {runtime}", *found]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return [f"device: {'CPU' if accelerator is None else accelerator.type.upper()}"]
