"""Multi-token prediction: further heads predict the tokens after the next (Gloeckle et al. 2024, arXiv 2404.19737).

Legend: N rows, S positions of a row, D the model's width, M labelled positions of all heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llm_jepa.objectives.losses.lm_head import LMHead, token_log_probs
from llm_jepa.objectives.losses.row_means import mean_of_row_means

IGNORED_LABEL = -100


def multi_token_rows(head_hidden: Sequence[Tensor], labels_NS: Tensor, head: LMHead) -> Tensor:
    """Mean over the heads k = 0, 1, .. of the mean cross-entropy of x_(t+2+k) given hidden_k,t, where it has a label.

    A head without such a position in a row is left out for that row; a row without any has the loss 0. All heads
    share the language model's head, and the gradient reaches it. Multi-token prediction (arXiv 2404.19737), section 2;
    the next token is left to the language-model loss. Example, S = 4: head 0 predicts the tokens 2 and 3 from the
    positions 0 and 1, head 1 the token 3 from position 0.

    Args:
        head_hidden: hidden_NSD of each head.
        labels_NS: The label of each token, not shifted; -100 without.

    Returns:
        loss_N, in float32.
    """
    labels = [labels_NS[:, 2 + k :] for k in range(len(head_hidden))]
    chosen = [labels_NT != IGNORED_LABEL for labels_NT in labels]
    hidden = [
        hidden_NSD[:, : is_chosen_NT.shape[1]][is_chosen_NT]
        for hidden_NSD, is_chosen_NT in zip(head_hidden, chosen, strict=True)
    ]
    label_M = torch.cat([labels_NT[is_chosen_NT] for labels_NT, is_chosen_NT in zip(labels, chosen, strict=True)])
    # In one call, so that one gradient of the weight stands in memory.
    loss_M = -token_log_probs(torch.cat(hidden), label_M, head)
    return mean_of_row_means(loss_M.split([len(one) for one in hidden]), chosen)
