"""Log-probabilities of candidates after pictures and questions, whose forward the candidates share.

The numbers are those of `TokenVLM.forward`. Legend: N rows, S tokens of picture and question, C candidates, A tokens
of the longest candidate, V tokens of the vocabulary.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llm_jepa.objectives.latent_dynamics import CACHE_ARGUMENT
from llm_jepa.vision.token_loss import answer_loss
from llm_jepa.vision.token_model import TokenVLM, positions_of


@dataclass(frozen=True)
class ReadRows:
    """Pictures and questions that a language model has read.

    Attributes:
        cache: Keys and values of each row.
        mask_NS: 0 for padding.
        logits_NV: Of the first token of an answer.
    """

    cache: Any
    mask_NS: Tensor
    logits_NV: Tensor


@torch.no_grad()
def read_rows(model: TokenVLM, inputs: dict[str, Tensor]) -> ReadRows:
    """Read the pictures and questions of a batch: the arguments of `forward`, without answers."""
    embeds_NSD, mask_NS = model.embed_inputs(**inputs)
    output = model.language_model(
        inputs_embeds=embeds_NSD,
        attention_mask=mask_NS,
        position_ids=positions_of(mask_NS),
        logits_to_keep=1,
        use_cache=True,
    )
    return ReadRows(getattr(output, CACHE_ARGUMENT), mask_NS, output.logits[:, -1])


@torch.no_grad()
def candidate_log_probs(
    model: TokenVLM, rows: ReadRows, candidates: Sequence[Sequence[str]], batch_size: int
) -> list[list[float]]:
    """The log-probability of each row's candidates with their end of text, in nats, summed over tokens, in float32.

    Args:
        candidates: Of each row.
        batch_size: Candidates per forward.
    """
    texts = [(row, text) for row, of_row in enumerate(candidates) for text in of_row]
    found: list[list[float]] = [[] for _ in candidates]
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        row_C = torch.tensor([row for row, _ in batch], device=model.device)
        ids_CA, mask_CA = model.processor.answers([text for _, text in batch], model.config.max_answer_tokens)
        log_prob_C = _log_probs(model, rows, row_C, ids_CA.to(model.device), mask_CA.to(model.device))
        for (row, _), log_prob in zip(batch, log_prob_C.tolist(), strict=True):
            found[row].append(log_prob)
    return found


def _log_probs(model: TokenVLM, rows: ReadRows, row_C: Tensor, ids_CA: Tensor, mask_CA: Tensor) -> Tensor:
    """log_prob_C of candidates, each after its row.

    Example: of the tokens a b end the row's own logits predict a; then a and b are read, which predict b and end.
    """
    cache = copy.deepcopy(rows.cache)
    cache.batch_select_indices(row_C)
    read_CA = ids_CA[:, :-1]
    mask_CT = torch.cat([rows.mask_NS[row_C], mask_CA[:, :-1]], dim=1)
    output = model.language_model(
        inputs_embeds=model.get_input_embeddings()(read_CA),
        attention_mask=mask_CT,
        position_ids=positions_of(mask_CT)[:, -read_CA.shape[1] :],
        use_cache=True,
        **{CACHE_ARGUMENT: cache},
    )
    logits_CAV = torch.cat([rows.logits_NV[row_C, None], output.logits], dim=1)
    return -answer_loss(logits_CAV, ids_CA, mask_CA)[0]
