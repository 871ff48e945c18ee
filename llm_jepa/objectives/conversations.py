"""The conversations of a laid-out batch after the backbone, each in a row, whatever the layout.

Legend: N conversations, S tokens of the longest, D width, P flat positions of the batch, M labelled positions,
K [PRED] tokens of a predicting view, T tokens of the longest target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from llm_jepa.layouts import Batch, LaidOut


@dataclass(frozen=True)
class Conversations:
    """Right-padded conversations, and what their views give an objective that computes within the forward.

    Attributes:
        hidden_NSD: Hidden states after the last layer and the final norm; those of padding mean nothing.
        embedding_NSD: Embeddings of the tokens, as the embedding layer gives them out.
        token_ids_NS: The tokens; those of padding mean nothing.
        is_token_NS: False for padding.
        label_row_M, label_position_M: The positions that predict a label.
        label_ids_M: Those labels, of the tokens after them.
        predictor_hidden_NKD: Hidden states at the [PRED] tokens, if they are appended; None without views or tokens.
        target_ids_NT: Tokens of targets that the model does not compute, padded with -1; None if there are none.
    """

    hidden_NSD: Tensor
    embedding_NSD: Tensor
    token_ids_NS: Tensor
    is_token_NS: Tensor
    label_row_M: Tensor
    label_position_M: Tensor
    label_ids_M: Tensor
    predictor_hidden_NKD: Tensor | None = None
    target_ids_NT: Tensor | None = None


def conversations_of(
    laid_out: LaidOut, hidden_PD: Tensor, embedding_PD: Tensor, num_predictor_tokens: int = 0
) -> Conversations:
    """What is laid out, its hidden states and its embeddings. No shape depends on a value, so a plan can count it."""
    batch = laid_out.batch
    position_NS = batch.conversation_positions_NK
    is_token_NS = position_NS >= 0
    num_positions = batch.input_ids_RL.numel()
    # flat position -> n * S + s; padding writes to one place more
    index_NS = torch.arange(position_NS.numel(), device=position_NS.device).view(position_NS.shape)
    index_P = torch.zeros(num_positions + 1, dtype=torch.long, device=position_NS.device)
    index_P = index_P.scatter(0, position_NS.where(is_token_NS, num_positions).flatten(), index_NS.flatten())
    label_index_M = index_P[batch.label_positions_M]
    return Conversations(
        hidden_NSD=conversation_rows(batch, hidden_PD),
        embedding_NSD=conversation_rows(batch, embedding_PD),
        token_ids_NS=batch.input_ids_RL.flatten()[position_NS.clamp(min=0)],
        is_token_NS=is_token_NS,
        label_row_M=label_index_M // position_NS.shape[1],
        label_position_M=label_index_M % position_NS.shape[1],
        label_ids_M=batch.label_ids_M,
        predictor_hidden_NKD=predictor_hidden_states(batch, hidden_PD, num_predictor_tokens),
        target_ids_NT=laid_out.target_ids_NT,
    )


def conversation_rows(batch: Batch, values_PD: Tensor) -> Tensor:
    """The values of each conversation, such as its hidden states, in a row of its own: values_NSD."""
    position_NS = batch.conversation_positions_NK.clamp(min=0)
    return values_PD.index_select(0, position_NS.flatten()).unflatten(0, position_NS.shape)


def predictor_hidden_states(batch: Batch, hidden_PD: Tensor, num_tokens: int) -> Tensor | None:
    """The hidden states at the appended [PRED] tokens of the predicting view: hidden_NKD; None without any.

    No other sequence has them, and every layout stores what a sequence shares with no other side by side. So they are
    at the K positions up to the readout. Worked example, the view "a b P Q" beside the conversation "a b c d" in the
    layout `packed`, stored as a b c d P Q: the readout is at 5, and the [PRED] tokens are at 4 and 5.
    """
    if num_tokens == 0 or len(batch.view_readouts_VN) == 0:
        return None
    before_K = torch.arange(1 - num_tokens, 1, device=hidden_PD.device)
    position_NK = batch.view_readouts_VN[0, :, None] + before_K
    return hidden_PD.index_select(0, position_NK.flatten()).unflatten(0, position_NK.shape)
