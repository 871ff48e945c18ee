"""FLOPs of a training step by arithmetic: from the tokens of its batch and the matrices of its model.

Two FLOPs per parameter and token in each product of a matrix. Embeddings, norms, the optimizer and the part of
attention that grows with the square of a length are left out. Imports nothing of the package.

Legend: N_b parameters of the backbone's matrices (neither embeddings nor head), V * D those of the head, A those of
the adapters.
"""

import math
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

NUM_EXPERTS_FIELDS = ("num_experts", "num_local_experts", "n_routed_experts")
"""What configs call the number of experts of a layer."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters that tokens are multiplied with; without adapters (0) the backbone and the head themselves train."""

    backbone_parameters: int
    head_parameters: int
    adapter_parameters: int


@dataclass(frozen=True)
class StepCounts:
    """Tokens of one step, or of any number of steps.

    Attributes:
        conversation_tokens: Of the conversations, padding left out.
        tokens: Of the forward with gradient: the conversations' and those that the views add.
        detached_tokens: Of the forward without gradient.
        labelled_tokens: Positions that the head must score.
    """

    conversation_tokens: float
    tokens: float
    detached_tokens: float
    labelled_tokens: float


def model_size(model: PreTrainedModel | PeftModel) -> ModelSize:
    """Count the matrices of a model, with LoRA adapters or without; of a mixture of experts, what a token uses.

    Raises:
        ValueError: The model has no head.
    """
    causal_lm = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(causal_lm, PreTrainedModel)
    head = causal_lm.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(causal_lm).__name__} has no LM head; give a causal language model.")
    embeddings = [module.weight for module in causal_lm.modules() if isinstance(module, nn.Embedding)]
    left_out = {id(weight) for weight in (*embeddings, head.weight)}
    backbone = adapters = 0
    for name, parameter in causal_lm.named_parameters():
        shape = _whole_shape(parameter)
        if "lora_" in name:
            adapters += math.prod(shape)
        elif len(shape) >= 2 and id(parameter) not in left_out:
            is_experts = len(shape) == 3  # all of a layer in one
            backbone += round(math.prod(shape) * (active_expert_share(causal_lm) if is_experts else 1))
    return ModelSize(backbone, math.prod(_whole_shape(head.weight)), adapters)


def active_expert_share(model: PreTrainedModel) -> float:
    """Share of a layer's experts that a token is sent to; 1 of a dense model."""
    config = model.config.get_text_config()
    experts = next((n for name in NUM_EXPERTS_FIELDS if (n := getattr(config, name, None))), None)
    return 1.0 if experts is None else getattr(config, "num_experts_per_tok", experts) / experts


def _whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Of a matrix that bitsandbytes has packed or ZeRO-3 spread over devices, as it was."""
    packed = getattr(parameter, "quant_state", None)
    return packed.shape if packed is not None else getattr(parameter, "ds_shape", parameter.shape)


def step_flops(counts: StepCounts, size: ModelSize) -> float:
    """FLOPs that a step cannot do without.

    forward   2 (N_b + A) per token, with gradient or without, and 2 V D per labelled position
    backward  gradients of the inputs, 2 (N_b + A) per token and 2 V D per labelled position, and of the weights
              that train, as much again: of backbone and head, or, where there are adapters, of A alone
    """
    matrices = size.backbone_parameters + size.adapter_parameters
    trained = size.adapter_parameters or size.backbone_parameters
    trained_head = 0 if size.adapter_parameters else size.head_parameters
    return (
        counts.tokens * (4 * matrices + 2 * trained)
        + counts.detached_tokens * 2 * matrices
        + counts.labelled_tokens * (4 * size.head_parameters + 2 * trained_head)
    )
