"""The LM head of a model within its forward, whole under every launcher."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedConfig, PreTrainedModel
from trl.trainer.utils import maybe_gather_lm_head_ctx

from llm_jepa.objectives.losses import LMHead


@contextmanager
def whole_lm_head(model: PreTrainedModel) -> Iterator[LMHead]:
    """The head with its weights gathered meanwhile from the shards of FSDP2 or ZeRO-3."""
    module = model.get_output_embeddings()
    assert module is not None, "the model has an LM head"
    weight_VD, bias_V = module.weight, getattr(module, "bias", None)
    config = model.config.get_text_config()
    with maybe_gather_lm_head_ctx(*(weight for weight in (weight_VD, bias_V) if weight is not None)):
        yield LMHead(
            _full(weight_VD),
            None if bias_V is None else _full(bias_V),
            logit_scale(config),
            getattr(config, "final_logit_softcapping", None),
        )


def logit_scale(config: PreTrainedConfig) -> float:
    """What a model multiplies its logits by; 1 for most."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        factor = getattr(config, name, None)
        if factor is not None:
            return factor
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return scaling if config.model_type == "hyperclovax" else 1 / scaling


def _full(weight: Tensor) -> Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
