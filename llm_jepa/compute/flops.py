"""FLOPs of a training step, calculated from the tokens of its batch and the matrices of its model.

A matrix product takes two FLOPs per parameter and token. Embeddings, norms and the optimizer are left out; so is the
quadratic part of attention, unless its pairs are counted. Imports nothing of the package.

Legend: N parameters of the backbone's matrices (without embeddings and head), adapters included; V * D of the head;
T and T_h those of both that are trained; W width of all attention heads of all layers together.
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
    """Parameters of the matrices (N, V * D, T, T_h), W and D."""

    backbone_parameters: int
    head_parameters: int
    trained_parameters: int
    trained_head_parameters: int
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
        uncomputed_targets: Targets that the model does not compute.
        uncomputed_target_tokens: Their tokens.
    """

    conversation_tokens: float
    tokens: float
    detached_tokens: float
    labelled_tokens: float
    attention_pairs: float = 0.0
    detached_attention_pairs: float = 0.0
    uncomputed_targets: float = 0.0
    uncomputed_target_tokens: float = 0.0


def model_size(model: PreTrainedModel | PeftModel) -> ModelSize:
    """Count the parameters of a model's matrices and adapters; of a mixture of experts, those that a token uses.

    The weights that PEFT keeps beside a trained copy (`modules_to_save`) compute nothing and do not count.

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
    backbone = trained = 0
    for name, parameter in causal_lm.named_parameters():
        shape = _whole_shape(parameter)
        if len(shape) >= 2 and id(parameter) not in left_out and ".original_module." not in name:
            is_experts = len(shape) == 3  # one tensor holds all experts of a layer
            used = round(math.prod(shape) * (active_expert_share(causal_lm) if is_experts else 1))
            backbone += used
            trained += used if parameter.requires_grad else 0
    of_head, width = math.prod(_whole_shape(head.weight)), causal_lm.config.get_text_config().hidden_size
    of_trained_head = of_head if head.weight.requires_grad else 0
    return ModelSize(backbone, of_head, trained, of_trained_head, attention_width(causal_lm), width)


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

    forward   2 N per token, with gradient or without, and 2 V D per labelled position
    backward  gradients of the inputs: 2 N per token and 2 V D per labelled position;
              gradients of the trained weights: 2 T per token and 2 T_h per labelled position
    attention 4 W per pair forward (scores, and the mean of the values), 10 W backward, which computes the scores anew

    A model without trained weights has no backward.
    """
    forward = (
        (counts.tokens + counts.detached_tokens) * 2 * size.backbone_parameters
        + counts.labelled_tokens * 2 * size.head_parameters
        + (counts.attention_pairs + counts.detached_attention_pairs) * 4 * size.attention_width
    )
    if size.trained_parameters + size.trained_head_parameters == 0:
        return forward
    return (
        forward
        + counts.tokens * 2 * (size.backbone_parameters + size.trained_parameters)
        + counts.labelled_tokens * 2 * (size.head_parameters + size.trained_head_parameters)
        + counts.attention_pairs * 10 * size.attention_width
    )
