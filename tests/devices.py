"""The device that tests of training and layouts compute on: the CPU, unless LLM_JEPA_TEST_DEVICE names a GPU."""

import os
from typing import Any

import torch
from torch import Tensor

from llm_jepa.layouts import LaidOut

DEVICE = torch.device(os.environ.get("LLM_JEPA_TEST_DEVICE", "cpu"))
USE_CPU = DEVICE.type == "cpu"


def on_device(value: Any, device: torch.device = DEVICE) -> Any:
    """Tensors of a nested batch on a device, everything else as it is."""
    if isinstance(value, dict):
        return {key: on_device(item, device) for key, item in value.items()}
    return value.to(device) if isinstance(value, Tensor | LaidOut) else value
