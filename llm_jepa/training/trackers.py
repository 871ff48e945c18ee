"""The trackers of `report_to`: their names, and whether they are installed. Imports no torch."""

import importlib.util
from collections.abc import Iterable, Sequence

TRACKERS = ("trackio", "wandb", "tensorboard", "mlflow")
"""Those that the extra `trackers` installs."""
PACKAGES = {
    **{name: (name,) for name in TRACKERS},
    "tensorboard": ("tensorboard", "tensorboardX"),
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": ("kubeflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
}
"""Every tracker that transformers knows -> the packages of which one must be installed."""
ALL_OR_NONE = ("all", "none")


def check_trackers(report_to: str | Sequence[str] | None) -> None:
    """Check the value of `report_to`.

    Raises:
        ValueError: It names a tracker that is unknown or not installed.
    """
    names = [report_to] if isinstance(report_to, str) else [*(report_to or ())]
    if len(names) == 1 and names[0] in ALL_OR_NONE:
        return
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        raise ValueError(
            f"`report_to: {', '.join(unknown)}` names no tracker. Allowed are {', '.join(PACKAGES)}, several as "
            "`--report_to trackio tensorboard` or in YAML `[trackio, tensorboard]`; and, alone, `all` (the "
            "installed) or `none`."
        )
    missing = [name for name in names if not _is_any_installed(PACKAGES[name])]
    if missing:
        raise ValueError(
            f"`report_to: {', '.join(missing)}` names a tracker that is not installed. Install it, or all of "
            f"{', '.join(TRACKERS)} with `pip install 'llm-jepa[trackers]'`, or set `report_to: none`."
        )


def _is_any_installed(packages: Iterable[str]) -> bool:
    return any(importlib.util.find_spec(package) is not None for package in packages)
