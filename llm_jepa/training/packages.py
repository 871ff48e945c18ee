"""The optional packages that settings need. Imports no torch."""

import importlib.util
from collections.abc import Mapping
from typing import Any

OPTIMIZER_PACKAGES = {
    "adamw_anyprecision": "torchdistx",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_torch_npu_fused": "torch_npu",
    "adamw_torch_xla": "torch_xla",
    "ademamix": "bitsandbytes",
    "grokadamw": "grokadamw",
    "lion_32bit": "bitsandbytes",
    "lomo": "lomo_optim",
    "adalomo": "lomo_optim",
    "stable_adamw": "optimi",
}
OPTIMIZER_FAMILIES = {
    "apollo_": "apollo_torch",
    "galore_": "galore_torch",
    "paged_": "bitsandbytes",
    "schedule_free_": "schedulefree",
}
"""Beginning of the names of optimizers -> their package."""
DISTRIBUTIONS = {
    "apollo_torch": "apollo-torch",
    "galore_torch": "galore-torch",
    "liger_kernel": "liger-kernel",
    "lomo_optim": "lomo-optim",
    "optimi": "torch-optimi",
}
"""Package -> its name for pip, where it is another."""


def check_packages(settings: Mapping[str, Any]) -> None:
    """Check that the packages which settings need are installed.

    Raises:
        ValueError: One is not.
    """
    for key, package in _needed(settings):
        if importlib.util.find_spec(package) is None:
            name = DISTRIBUTIONS.get(package, package)
            value = str(settings[key]).lower() if isinstance(settings[key], bool) else settings[key]
            raise ValueError(
                f"`{key}: {value}` needs the package {name}, which is not installed. `pip install {name}`, or leave "
                "the key out."
            )


def _needed(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Key -> package, for every setting given that needs one."""
    keys = {"use_liger_kernel": "liger_kernel", "load_in_4bit": "bitsandbytes", "load_in_8bit": "bitsandbytes"}
    needed = [(key, package) for key, package in keys.items() if settings.get(key)]
    optimizer = settings.get("optim", "")
    is_8_bit = "8bit" in optimizer or "bnb" in optimizer
    packages = [package for start, package in OPTIMIZER_FAMILIES.items() if optimizer.startswith(start)]
    packages += [OPTIMIZER_PACKAGES[optimizer]] if optimizer in OPTIMIZER_PACKAGES else []
    packages += ["bitsandbytes"] if is_8_bit and not packages else []
    return [*needed, *(("optim", package) for package in packages)]
