"""The conversations of a laid-out batch after the backbone, each in a row, whatever the layout.

Legend: N conversations, S tokens of the longest, D width, P flat positions of the batch, M labelled positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from llm_jepa.layouts import Batch


@dataclass(frozen=True)
class Conversations:
    """Right-padded conversations.

    Attributes:
        hidden_NSD: Hidden states after the last layer and the final norm; those of padding mean nothing.
        token_ids_NS: The tokens; those of padding mean nothing.
        is_token_NS: False for padding.
        label_row_M, label_position_M: The positions that predict a label.
        label_ids_M: Those labels, of the tokens after them.
    """

    hidden_NSD: Tensor
    token_ids_NS: Tensor
    is_token_NS: Tensor
    label_row_M: Tensor
    label_position_M: Tensor
    label_ids_M: Tensor


def conversations_of(batch: Batch, hidden_PD: Tensor) -> Conversations:
    """The conversations in a batch and its hidden states. No shape depends on a value, so a plan can count it."""
    position_NS = batch.conversation_positions_NK
    is_token_NS = position_NS >= 0
    num_positions = batch.input_ids_RL.numel()
    # flat position -> n * S + s; padding writes to one place more
    index_NS = torch.arange(position_NS.numel(), device=position_NS.device).view(position_NS.shape)
    index_P = torch.zeros(num_positions + 1, dtype=torch.long, device=position_NS.device)
    index_P = index_P.scatter(0, position_NS.where(is_token_NS, num_positions).flatten(), index_NS.flatten())
    label_index_M = index_P[batch.label_positions_M]
    return Conversations(
        hidden_NSD=conversation_hidden_states(batch, hidden_PD),
        token_ids_NS=batch.input_ids_RL.flatten()[position_NS.clamp(min=0)],
        is_token_NS=is_token_NS,
        label_row_M=label_index_M // position_NS.shape[1],
        label_position_M=label_index_M % position_NS.shape[1],
        label_ids_M=batch.label_ids_M,
    )


def conversation_hidden_states(batch: Batch, hidden_PD: Tensor) -> Tensor:
    """The hidden states of each conversation in a row of its own: hidden_NSD."""
    position_NS = batch.conversation_positions_NK.clamp(min=0)
    return hidden_PD.index_select(0, position_NS.flatten()).unflatten(0, position_NS.shape)
