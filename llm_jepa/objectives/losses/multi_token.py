"""Multi-token prediction: further heads predict the tokens after the next (Gloeckle et al. 2024, arXiv 2404.19737).

Legend: N rows, S positions of a row, D the model's width, M labelled positions, K heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llm_jepa.objectives.losses.lm_head import LMHead, token_log_probs
from llm_jepa.objectives.losses.row_means import mean_of_row_means


def multi_token_rows(
    head_hidden: Sequence[Tensor], label_row_M: Tensor, label_position_M: Tensor, label_ids_M: Tensor, head: LMHead
) -> Tensor:
    """Mean over the heads k = 0, 1, .. of the mean cross-entropy of x_(t+2+k) given hidden_k,t, where it has a label.

    A head without such a position in a row is left out for that row; a row without any has the loss 0. All heads
    share the language model's head, and the gradient reaches it. Multi-token prediction (arXiv 2404.19737), section 2;
    the next token is left to the language-model loss. Example, labels after the positions 0, 1 and 2, of the tokens 1,
    2 and 3: head 0 predicts the tokens 2 and 3 from t = 0 and t = 1, head 1 the token 3 from t = 0.

    Args:
        head_hidden: hidden_NSD of each head.
        label_row_M, label_position_M: The positions whose next token has a label.
        label_ids_M: That label.

    Returns:
        loss_N, in float32.
    """
    position_KM = torch.stack([label_position_M - 1 - k for k in range(len(head_hidden))])
    hidden_KMD = torch.stack(
        [
            hidden_NSD[label_row_M, position_M]
            for hidden_NSD, position_M in zip(head_hidden, position_KM.clamp(min=0), strict=True)
        ]
    )
    # In one call, so that one gradient of the weight stands in memory.
    log_probs = token_log_probs(hidden_KMD.flatten(0, 1), label_ids_M.repeat(len(head_hidden)), head)
    return mean_of_row_means(-log_probs.view(position_KM.shape), position_KM >= 0, label_row_M, len(head_hidden[0]))
