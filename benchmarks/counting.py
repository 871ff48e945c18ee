"""What a training step has to compute, counted on its batch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_jepa.compute.flops import ModelSize, StepCounts, step_flops
from llm_jepa.layouts import LaidOut
from llm_jepa.objectives.base import Objective

IGNORED_LABEL = -100


@dataclass(frozen=True, kw_only=True)
class BatchCounts(StepCounts):
    """Tokens of a step's batch, all positions that the backbone computes, padding and both forwards included, and the
    FLOPs of an objective's own network.
    """

    positions: int
    extra_flops: float = 0.0


def count_step(inputs: dict[str, Any], is_dropped: bool) -> BatchCounts:
    """Count the batch that a trainer's `training_step` was given, TRL's own or one with views laid out.

    Args:
        inputs: TRL's padded `input_ids`, `labels` and `attention_mask`; of `JEPATrainer` also `laid_out` and, with
            loss dropout, `laid_out_conversations`, as `llm_jepa.layouts.collator` makes them.
        is_dropped: Whether the step drops the JEPA term, and with it the views.
    """
    conversation_tokens = int(inputs["attention_mask"].sum())
    labelled_tokens = int((inputs["labels"][:, 1:] != IGNORED_LABEL).sum())
    laid_out: LaidOut | None = inputs.get("laid_out_conversations" if is_dropped else "laid_out")
    if laid_out is None:
        positions = inputs["input_ids"].numel()
        return BatchCounts(conversation_tokens, conversation_tokens, 0, labelled_tokens, positions=positions)
    return BatchCounts(
        conversation_tokens,
        laid_out.batch.num_tokens,
        laid_out.detached_tokens,
        labelled_tokens,
        uncomputed_targets=laid_out.uncomputed_targets,
        uncomputed_target_tokens=int(laid_out.uncomputed_target_tokens),
        positions=laid_out.num_positions,
    )


def with_own_flops(counts: BatchCounts, objective: Objective | None, size: ModelSize) -> BatchCounts:
    """The counts with the FLOPs of an objective's own network."""
    return counts if objective is None else replace(counts, extra_flops=objective.extra_flops(counts, size))


def floor(arm: Sequence[BatchCounts], sft: Sequence[StepCounts], size: ModelSize) -> float:
    """FLOPs of an arm's steps over those of SFT's, both with the head on labelled positions alone."""
    own = sum(counts.extra_flops for counts in arm)
    return (own + sum(step_flops(counts, size) for counts in arm)) / sum(step_flops(counts, size) for counts in sft)


def batch_digest(inputs: dict[str, Any]) -> str:
    """A fingerprint of the conversations of a batch, their order and their labels, whatever the padding."""
    digest = hashlib.sha256()
    for ids_L, labels_L, mask_L in zip(inputs["input_ids"], inputs["labels"], inputs["attention_mask"], strict=True):
        row = (ids_L[mask_L.bool()].tolist(), labels_L[mask_L.bool()].tolist())
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]
