"""Explains what transformers, PEFT and TRL raise while a trainer is built or begins: they do not name the setting."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
import trl
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

LIBRARY_ERRORS = (
    OSError, ValueError, ImportError, LookupError, AttributeError, TypeError, RuntimeError, UnpicklingError,
    SafetensorError, StrictDataclassError,
)  # fmt: skip
STEPS = {
    "clone_chat_template": "`chat_template_path` cannot be used",
    "get_peft_model": "The adapter cannot be put into {model}",
    "create_optimizer": "`optim` with `optim_args` cannot be used",
    "create_scheduler": "`lr_scheduler_type` with `lr_scheduler_kwargs` cannot be used",
    "_determine_best_metric": "`metric_for_best_model` cannot be used",
    "create_model_from_path": "{model} cannot be loaded",
    "from_config": "{model} cannot be built",
    "changed_config": "The configuration of {model} cannot be loaded with `model_init_kwargs`",
    "from_pretrained": "The tokenizer of {model} cannot be loaded",
    "get_config_dict": "{model} cannot be loaded",
}
"""Function, mostly of a library -> what failed if it is in the traceback; the first that is."""
REFUSALS = (ValueError, ImportError, NotImplementedError)
TRL = Path(trl.__file__).parent
"""What TRL itself raises in its checks is a message for the user."""
MAX_REASON_LENGTH = 400


@contextmanager
def build_errors_explained(model: str) -> Iterator[None]:
    """Raise a `ValueError` that says which step failed; the library's error is its cause. Other errors pass.

    Args:
        model: The name of the model that is built.

    Raises:
        ValueError: The model, tokenizer, adapter, chat template, optimizer or schedule cannot be built, or TRL refuses
            an option.
    """
    try:
        yield
    except LIBRARY_ERRORS as error:
        frames = traceback.extract_tb(error.__traceback__)
        called = {frame.name for frame in frames}
        step = next((text for function, text in STEPS.items() if function in called), None)
        if step is None and isinstance(error, REFUSALS) and Path(frames[-1].filename).is_relative_to(TRL):
            step = "TRL refuses this"
        if step is None or isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[:MAX_REASON_LENGTH]} ..."
        kind = "" if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: "
        raise ValueError(f"{step.format(model=f'`{model}`')}: {kind}{reason}") from error
