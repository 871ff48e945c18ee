"""FLOPs of a training step, calculated from the tokens of its batch and the matrices of its model.

A matrix product takes two FLOPs per parameter and token. Embeddings, norms and the optimizer are left out; so is the
quadratic part of attention, unless its pairs are counted. Imports nothing of the package.

Legend: N_b parameters of the backbone's matrices (without embeddings and head), V * D of the head, A of the adapters,
W width of all attention heads of all layers together.
"""

import math
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

NUM_EXPERTS_FIELDS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of experts per layer in model configs."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of the matrices, W and D. Without adapters (0), backbone and head are trained."""

    backbone_parameters: int
    head_parameters: int
    adapter_parameters: int
    attention_width: int = 0
    width: int = 0


@dataclass(frozen=True)
class StepCounts:
    """Tokens of one or more steps.

    Attributes:
        conversation_tokens: Tokens of the conversations, without padding.
        tokens: Tokens of the forward with gradient: conversations and views.
        detached_tokens: Tokens of the forward without gradient.
        labelled_tokens: Positions that the head must score.
        attention_pairs: Pairs of positions in the forward with gradient, L^2 for a sequence or packed row of L.
        detached_attention_pairs: The same of the forward without gradient.
    """

    conversation_tokens: float
    tokens: float
    detached_tokens: float
    labelled_tokens: float
    attention_pairs: float = 0.0
    detached_attention_pairs: float = 0.0


def model_size(model: PreTrainedModel | PeftModel) -> ModelSize:
    """Count the parameters of a model's matrices and LoRA adapters; of a mixture of experts, those that a token uses.

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
            is_experts = len(shape) == 3  # one tensor holds all experts of a layer
            backbone += round(math.prod(shape) * (active_expert_share(causal_lm) if is_experts else 1))
    head_parameters, width = math.prod(_whole_shape(head.weight)), causal_lm.config.get_text_config().hidden_size
    return ModelSize(backbone, head_parameters, adapters, attention_width(causal_lm), width)


def active_expert_share(model: PreTrainedModel) -> float:
    """Share of a layer's experts that process a token; 1 for a dense model."""
    config = model.config.get_text_config()
    experts = next((n for name in NUM_EXPERTS_FIELDS if (n := getattr(config, name, None))), None)
    return 1.0 if experts is None else getattr(config, "num_experts_per_tok", experts) / experts


def attention_width(model: PreTrainedModel) -> int:
    """W: heads times their width, summed over the layers that attend to all positions or to a window of them."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["attention"] * config.num_hidden_layers
    layers = sum("attention" in kind and "linear" not in kind for kind in kinds)
    heads = getattr(config, "num_attention_heads", 0)
    return layers * heads * (getattr(config, "head_dim", None) or config.hidden_size // max(heads, 1))


def _whole_shape(parameter: nn.Parameter) -> torch.Size:
    """The original shape of a matrix that bitsandbytes has packed or ZeRO-3 has partitioned."""
    packed = getattr(parameter, "quant_state", None)
    return packed.shape if packed is not None else getattr(parameter, "ds_shape", parameter.shape)


def step_flops(counts: StepCounts, size: ModelSize) -> float:
    """The least FLOPs of a step.

    forward   2 (N_b + A) per token, with gradient or without, and 2 V D per labelled position
    backward  gradients of the inputs: 2 (N_b + A) per token and 2 V D per labelled position;
              gradients of the trained weights: as much again, or 2 A per token with adapters
    attention 4 W per pair forward (scores, and the mean of the values), 10 W backward, which computes the scores anew
    """
    matrices = size.backbone_parameters + size.adapter_parameters
    trained = size.adapter_parameters or size.backbone_parameters
    trained_head = 0 if size.adapter_parameters else size.head_parameters
    return (
        counts.tokens * (4 * matrices + 2 * trained)
        + counts.detached_tokens * 2 * matrices
        + counts.labelled_tokens * (4 * size.head_parameters + 2 * trained_head)
        + counts.attention_pairs * 14 * size.attention_width
        + counts.detached_attention_pairs * 4 * size.attention_width
    )
