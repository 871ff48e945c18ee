"""Writes where a run takes place, and fails if a package that it needs cannot be imported.

python benchmarks/gpu/environment.py OUTPUT.json [--site DIRECTORY]
"""

import argparse
import importlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # where step_cost_report.py lies

NEEDED = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "trl", "datasets", "pyarrow.parquet", "pandas"),
    *("peft", "accelerate", "gguf", "scipy", "matplotlib", "sklearn", "rich", "pytest", "hypothesis", "llm_jepa"),
)
OPTIONAL = ("triton", "bitsandbytes", "liger_kernel", "flash_attn", "xdist")
"""Without one of these the tests or scenarios that use it are skipped or fail; the others run."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "xdist": "pytest-xdist"}


def main() -> None:
    """Import everything, write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--site", type=Path, help="the unpacked pack")
    options = parser.parse_args()
    packages = {name: found(name, options.site) for name in (*NEEDED, *OPTIONAL)}
    for name, package in packages.items():
        print(f"{name}: {package.get('error') or package['version'] + ' of the ' + package['origin']}", flush=True)
    content = {"python": platform.python_version(), "packages": packages, "nvidia_smi": nvidia_smi()}
    missing = [name for name in NEEDED if "error" in packages[name]]
    if not missing:
        from step_cost_report import commit, hardware

        content |= {"gpu": gpu(), "hardware": hardware(), "commit": commit()}
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if missing:
        sys.exit(f"Cannot be imported: {', '.join(missing)}")


def found(name: str, site: Path | None) -> dict[str, str]:
    """Version and origin of a package, or the error that its import ends with."""
    try:
        module = importlib.import_module(name)
        distribution = name.partition(".")[0]
        version = importlib.metadata.version(DISTRIBUTIONS.get(distribution, distribution))
    except Exception as error:  # a library that does not fit the machine may raise anything
        return {"error": f"{type(error).__name__}: {error}"}
    is_packed = site is not None and Path(module.__file__ or "").is_relative_to(site)
    return {"version": version, "origin": "pack" if is_packed else "environment"}


def gpu() -> dict[str, Any] | None:
    """The GPU as PyTorch sees it."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": list(torch.cuda.get_device_capability(0)),
        "cuda": torch.version.cuda,
    }


def nvidia_smi() -> str | None:
    """Driver, and whatever else takes the GPU's memory or time before the run."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    fields = "name,driver_version,memory.used,utilization.gpu,clocks.sm,clocks.max.sm,power.limit"
    command = [program, f"--query-gpu={fields}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
