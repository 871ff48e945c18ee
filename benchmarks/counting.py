"""What a training step has to compute, counted on its batch: tokens, and from them the FLOPs of its matrices.

Legend: N_b parameters of the backbone's matrices (neither embeddings nor head), V * D those of the head, A those of
the adapters.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

IGNORED_LABEL = -100


@dataclass(frozen=True)
class ModelSize:
    """Parameters that tokens are multiplied with; without adapters (0) the backbone and the head themselves train."""

    backbone_parameters: int
    head_parameters: int
    adapter_parameters: int


@dataclass(frozen=True)
class StepCounts:
    """Tokens of one step.

    Attributes:
        conversation_tokens: Of the conversations, padding left out.
        tokens: Of the forward with gradient: the conversations' and those that the views add.
        detached_tokens: Of the forward without gradient.
        labelled_tokens: Positions that the head must score.
        positions: All that the backbone computes, padding and both forwards included.
    """

    conversation_tokens: int
    tokens: int
    detached_tokens: int
    labelled_tokens: int
    positions: int


def model_size(model: PreTrainedModel | PeftModel) -> ModelSize:
    """Count the matrices of a model, with LoRA adapters or without. Of a mixture of experts all experts are counted.

    Raises:
        ValueError: The model has no head.
    """
    causal_lm = model.get_base_model() if isinstance(model, PeftModel) else model
    head = causal_lm.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(causal_lm).__name__} has no LM head; give a causal language model.")
    embeddings = [module.weight for module in causal_lm.modules() if isinstance(module, nn.Embedding)]
    left_out = {id(weight) for weight in (*embeddings, head.weight)}
    backbone = adapters = 0
    for name, parameter in causal_lm.named_parameters():
        if "lora_" in name:
            adapters += parameter.numel()
        elif parameter.dim() >= 2 and id(parameter) not in left_out:
            backbone += parameter.numel()
    return ModelSize(backbone, head.weight.numel(), adapters)


def count_step(inputs: dict[str, Any], is_dropped: bool) -> StepCounts:
    """Count the batch that a trainer's `training_step` was given, TRL's own or one with views laid out.

    Args:
        inputs: TRL's padded `input_ids`, `labels` and `attention_mask`; of `JEPATrainer` also `views` or, without
            views, `conversations`, as `llm_jepa.collator` makes them.
        is_dropped: Whether the step drops the JEPA term, and with it the views.
    """
    conversation_tokens = int(inputs["attention_mask"].sum())
    labelled_tokens = int((inputs["labels"][:, 1:] != IGNORED_LABEL).sum())
    laid_out = inputs.get("conversations") if is_dropped or "views" not in inputs else inputs["views"]
    if laid_out is None:
        positions = inputs["input_ids"].numel()
        return StepCounts(conversation_tokens, conversation_tokens, 0, labelled_tokens, positions)
    batch, detached = laid_out["batch"], laid_out["detached"]
    positions = batch["input_ids_RL"].numel() + (detached["input_ids_RL"].numel() if detached else 0)
    detached_tokens = detached["num_tokens"] if detached else 0
    return StepCounts(conversation_tokens, batch["num_tokens"], detached_tokens, labelled_tokens, positions)


def step_flops(counts: StepCounts, size: ModelSize) -> int:
    """FLOPs that a step cannot do without; the part of attention that grows with the square of a length is left out.

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


def floor(arm: Sequence[StepCounts], sft: Sequence[StepCounts], size: ModelSize) -> float:
    """FLOPs of an arm's steps over those of SFT's, both with the head on labelled positions alone."""
    return sum(step_flops(counts, size) for counts in arm) / sum(step_flops(counts, size) for counts in sft)


def batch_digest(inputs: dict[str, Any]) -> str:
    """A fingerprint of the conversations of a batch, their order and their labels, whatever the padding."""
    digest = hashlib.sha256()
    for ids_L, labels_L, mask_L in zip(inputs["input_ids"], inputs["labels"], inputs["attention_mask"], strict=True):
        row = (ids_L[mask_L.bool()].tolist(), labels_L[mask_L.bool()].tolist())
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]
