"""Which modules of a model an adapter would train."""

import difflib
from collections.abc import Sequence

from peft import LoraConfig, PeftConfig
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import PreTrainedModel


def check_adapter_targets(model: PreTrainedModel, config: PeftConfig) -> None:
    """Check before the weights are loaded that each module named for LoRA is in the model.

    PEFT refuses names of which none is there. Of several, it ignores those that are not.

    Args:
        model: The model; on the meta device will do.

    Raises:
        ValueError: A name of `lora_target_modules` or `lora_modules_to_save` is no module's, or none is given for a
            kind of model for which PEFT has no default.
    """
    assert isinstance(config, LoraConfig), "a recipe has no other adapter"
    kind = getattr(model.config, "model_type", None)
    targets = config.target_modules
    if not targets and not config.target_parameters and kind not in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING:
        raise ValueError(
            f"`lora_target_modules` must be given for a model of the type {kind}: PEFT has no default for it. Give "
            "`all-linear`, or names of modules."
        )
    if isinstance(targets, list | set | tuple):
        _check_names("lora_target_modules", sorted(targets), model)
    _check_names("lora_modules_to_save", config.modules_to_save or (), model)


def _check_names(key: str, wanted: Sequence[str], model: PreTrainedModel) -> None:
    """A name matches the end of a module's path, as in PEFT."""
    names = [name for name, _ in model.named_modules()]
    missing = [one for one in wanted if not any(name == one or name.endswith(f".{one}") for name in names)]
    if missing:
        matrices = (name for name, parameter in model.named_parameters() if parameter.ndim > 1)
        known = sorted({name.removesuffix(".weight").rpartition(".")[2] for name in matrices})
        near = difflib.get_close_matches(missing[0], known, n=1)
        meant = f" Did you mean `{near[0]}`?" if near else ""
        raise ValueError(
            f"`{key}: {', '.join(missing)}` names no module of the model.{meant} It has {', '.join(known)}."
        )
