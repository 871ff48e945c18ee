"""Log-probabilities of many candidates after one prompt, whose forward they share through the model's cache.

The end of a candidate is scored with it, as in training; else no candidate could be more likely than one it begins
with. Legend: C candidates of a batch, P tokens that all of them share, L the longest rest, V tokens of the vocabulary.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.prompts import Prompt
from llm_jepa.evaluation.likelihood import check_lengths, sequence_log_probs, tokenise
from llm_jepa.models.loading import position_limit
from llm_jepa.models.shared_cache import can_be_shared
from llm_jepa.models.stop_tokens import completion_end_id
from llm_jepa.objectives.latent_dynamics import CACHE_ARGUMENT


def prefix_length(sequences: Sequence[tuple[list[int], int]]) -> int:
    """How many first tokens all sequences share and none is scored, the last of them predicting the first scored one.

    Args:
        sequences: Token ids, and how many of the last ones are scored.

    Example: [5 6 7 8] with one scored and [5 6 9] with two: 5 is shared and predicts 6, so the length is 1.
    """
    limit = min(len(ids) - num_scored for ids, num_scored in sequences)
    first = sequences[0][0]
    same = (i for i in range(limit) if any(ids[i] != first[i] for ids, _ in sequences))
    return next(same, limit)


@torch.no_grad()
def candidate_log_probs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    candidates: Sequence[str],
    batch_size: int,
    template_kwargs: Mapping[str, Any],
) -> list[float]:
    """The log-probability of each candidate with its end after a prompt, in nats, summed over its tokens, in float32.

        score = sum_t log p(c_t | prompt, c_<t) + log p(end | prompt, c)

    The end is `completion_end_id`. White space at the end of the prompt is scored too, as by `choice_likelihoods`. A
    model with recurrent layers, whose state cannot be shared, computes the prompt for each candidate.

    Args:
        batch_size: Candidates per forward after the prompt's.

    Raises:
        ValueError: As by `choice_likelihoods`.
    """
    end = completion_end_id(tokenizer, is_chat=not isinstance(prompt, str))
    ends = [] if end is None else [end]
    tokenised = [tokenise(tokenizer, prompt, candidate, template_kwargs) for candidate in candidates]
    sequences = [(ids + ends, num_scored + len(ends)) for ids, num_scored in tokenised]
    check_lengths(sequences, position_limit(model.config))
    shared = prefix_length(sequences)
    if shared == 0:
        raise ValueError(f"The candidates of a prompt share no first token. The first is {candidates[0][:60]!r}.")
    prefix_1P = torch.tensor([sequences[0][0][:shared]], device=model.device)
    output = model(input_ids=prefix_1P, use_cache=True)
    cache = getattr(output, CACHE_ARGUMENT)
    is_shared = can_be_shared(cache)
    last_V = output.logits[0, -1].float()
    longest_first = sorted(range(len(sequences)), key=lambda i: -len(sequences[i][0]))
    log_probs = [0.0] * len(sequences)
    for start in range(0, len(sequences), batch_size):
        batch = longest_first[start : start + batch_size]
        texts = [sequences[i] for i in batch]
        scores = (
            _rest_log_probs(model, texts, shared, last_V, cache) if is_shared else sequence_log_probs(model, texts)
        )
        for i, score in zip(batch, scores, strict=True):
            log_probs[i] = score
    return log_probs


def _rest_log_probs(
    model: PreTrainedModel, batch: Sequence[tuple[list[int], int]], shared: int, last_V: Tensor, cache: Any
) -> list[float]:
    """The summed log-probability of each sequence's scored ids, after a prefix in the cache."""
    rests = [torch.tensor(ids[shared:]) for ids, _ in batch]
    input_ids_CL = pad_sequence(rests, batch_first=True).to(model.device)
    mask_CL = pad_sequence([torch.ones_like(rest) for rest in rests], batch_first=True).to(model.device)
    mask_CT = torch.cat([mask_CL.new_ones(len(batch), shared), mask_CL], dim=1)
    own_cache = copy.deepcopy(cache)
    own_cache.batch_repeat_interleave(len(batch))
    taken = {CACHE_ARGUMENT: own_cache}
    output = model(input_ids=input_ids_CL, attention_mask=mask_CT, use_cache=True, **taken)
    sums = []
    for (ids, num_scored), logits_LV in zip(batch, output.logits, strict=True):
        # Example: shared 3 of ids [p0 p1 p2 p3 c0 c1], two scored. After the cache come p3 c0 c1, whose first two
        # logits predict c0 and c1. With shared 4 the prefix's last logits predict c0.
        logits_TV = torch.cat([last_V[None], logits_LV[: len(ids) - shared].float()])
        start = len(ids) - num_scored - shared
        scored_T1 = torch.tensor(ids[-num_scored:], device=logits_TV.device)[:, None]
        log_prob_TV = logits_TV[start : start + num_scored].log_softmax(-1)
        sums.append(log_prob_TV.gather(1, scored_T1).sum().item())
    return sums
