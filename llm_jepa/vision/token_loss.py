"""The next-token loss of answers.

Legend: N rows, A tokens of the longest answer, V tokens of the vocabulary.
"""

import torch.nn.functional as F
from torch import Tensor


def answer_loss(logits_NAV: Tensor, answer_ids_NA: Tensor, answer_mask_NA: Tensor) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of each answer in nats, in float32: loss_N; and how many tokens are the likeliest.

    loss_n = - sum_a log p(answer_na | image, question, answer_n<a)
    """
    loss_NA = F.cross_entropy(logits_NAV.float().transpose(1, 2), answer_ids_NA, reduction="none")
    is_right_NA = logits_NAV.argmax(dim=-1) == answer_ids_NA
    return (loss_NA * answer_mask_NA).sum(dim=1), (is_right_NA * answer_mask_NA).sum().to(loss_NA)
