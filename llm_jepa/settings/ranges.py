"""Which values TRL's and PEFT's options may have, where those libraries say so late or not at all."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

POSITIVE_COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "dataset_num_proc",
)
FINITE_RATES = ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps")
MAX_SEED = 2**32 - 1
"""The largest that numpy takes."""
ATTENTION_NAMES = (
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention", "paged|eager",
)  # fmt: skip
"""The attentions that transformers has; any other comes from a repository of kernels on the Hub, `owner/name`."""
SPLIT = re.compile(r"[\w.-]+(\[(-?[\d_]+%?)?:(-?[\d_]+%?)?\])?(\([^)]*\))?")


def check_training_ranges(options: Any) -> None:
    """Check numbers of the training: the attributes of `JEPAConfig` or `VisionConfig`, or of a namespace of the same.

    Raises:
        ValueError: One is out of its range.
    """
    for name in POSITIVE_COUNTS:
        value = getattr(options, name, None)  # a recipe of VL-JEPA lacks some
        if value is not None and value < 1:
            raise ValueError(f"`{name}` is {value}; it must be at least 1.")
    for name in FINITE_RATES:
        value = getattr(options, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"`{name}` is {value}; it must be a finite number >= 0.")
    if not 0 <= options.seed <= MAX_SEED:
        raise ValueError(f"`seed` is {options.seed}; it must be between 0 and {MAX_SEED}.")
    if options.dataloader_num_workers < 0:
        raise ValueError(f"`dataloader_num_workers` is {options.dataloader_num_workers}; it must be at least 0.")
    if options.max_steps == 0 or options.max_steps < -1:
        raise ValueError(
            f"`max_steps` is {options.max_steps}; it must be above 0, or -1 to train for `num_train_epochs`."
        )
    if options.max_steps == -1 and not 0 < options.num_train_epochs < math.inf:
        raise ValueError(f"`num_train_epochs` is {options.num_train_epochs}; it must be a finite number above 0.")


def check_adapter_ranges(settings: Mapping[str, Any]) -> None:
    """Check the settings of an adapter.

    Raises:
        ValueError: One is out of its range.
    """
    task_type = settings.get("lora_task_type", "CAUSAL_LM")
    if task_type != "CAUSAL_LM":
        raise ValueError(
            f"`lora_task_type` is {task_type}; it must be CAUSAL_LM, or the adapter could not be loaded. Leave it out."
        )
    for name in ("lora_r", "lora_alpha"):
        if settings.get(name, 1) < 1:
            raise ValueError(f"`{name}` is {settings[name]}; it must be at least 1.")
    if not 0 <= settings.get("lora_dropout", 0) < 1:
        raise ValueError(f"`lora_dropout` is {settings['lora_dropout']}; it must be at least 0 and below 1.")


def check_attention(name: str | None) -> None:
    """Check a value of `attn_implementation`.

    Raises:
        ValueError: transformers knows no such attention.
    """
    if name is None or name in ATTENTION_NAMES or "/" in name:
        return
    nearest = difflib.get_close_matches(name, ATTENTION_NAMES, n=1, cutoff=0)[0]
    raise ValueError(
        f"`attn_implementation` is {name!r}. Did you mean `{nearest}`? Allowed are {', '.join(ATTENTION_NAMES)}, and "
        "kernels of the Hub as `owner/name`."
    )


def check_split(settings: Mapping[str, Any], key: str) -> None:
    """Check the form of a split, `train[:80%]`, or of several with `+`.

    Raises:
        ValueError: A part of it has another form, or a percentage is above 100.
    """
    split = settings.get(key)
    if split is None:
        return
    parts = re.split(r"\s*\+\s*", split)
    percentages = [int(number.replace("_", "")) for number in re.findall(r"(-?[\d_]*\d)%", split)]
    if not all(SPLIT.fullmatch(part) for part in parts) or any(abs(number) > 100 for number in percentages):
        raise ValueError(
            f"`{key}: {split}` is no split. Write its name, or a part of it as `train[:1000]`, `train[:80%]` or "
            "`train[80%:]`."
        )
