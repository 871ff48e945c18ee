"""Computes the log-probabilities of several choices after a prompt."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_jepa.data.prompts import Prompt, chat_ids, prompt_text, text_ids
from llm_jepa.models.loading import position_limit
from llm_jepa.scoring.choice import ChoiceLikelihoods


def choice_likelihoods(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    choices: Sequence[Sequence[str]],
    batch_size: int,
    progress: Callable[[Mapping[int, float]], None] | None = None,
    template_kwargs: Sequence[Mapping[str, Any]] | None = None,
    finished: Mapping[int, float] | None = None,
) -> list[ChoiceLikelihoods]:
    """The log-probabilities of each prompt's choices (nats, summed over tokens, in float32).

    No stop token is scored after a choice. White space at the end of the rendered prompt is scored with the choice, as
    in lm-eval, since a tokenizer may join it with the choice's first letters.

    Parameters:
        prompts: Chat messages or plain texts, as for `generate_completions`.
        choices: For each prompt, the texts to score.
        batch_size: Choices per batch; those of similar length share one.
        progress: Called after each batch with its log-probabilities, by the choice's number among all choices.
        template_kwargs: For each prompt, further arguments of its chat template.
        finished: Known log-probabilities, by the same numbers. A batch is skipped if all of its choices are finished.

    Raises:
        ValueError: A prompt or a choice is empty, or both together exceed the model's positions.
    """
    if template_kwargs is None:
        template_kwargs = [{}] * len(prompts)
    sequences: list[tuple[list[int], int]] = []
    for prompt, texts, kwargs in zip(prompts, choices, template_kwargs, strict=True):
        sequences += [tokenise(tokenizer, prompt, text, kwargs) for text in texts]
    check_lengths(sequences, position_limit(model.config))
    log_probs = dict(finished or {})
    longest_first = sorted(range(len(sequences)), key=lambda i: -len(sequences[i][0]))
    training = model.training
    model.eval()
    try:
        for start in range(0, len(sequences), batch_size):
            batch = longest_first[start : start + batch_size]
            if log_probs.keys() >= {*batch}:
                continue
            scored = dict(zip(batch, sequence_log_probs(model, [sequences[i] for i in batch]), strict=True))
            log_probs |= scored
            if progress is not None:
                progress(scored)
    finally:
        model.train(training)

    likelihoods, end = [], 0
    for texts in choices:
        start, end = end, end + len(texts)
        num_tokens = [num_scored for _, num_scored in sequences[start:end]]
        likelihoods.append(ChoiceLikelihoods(list(texts), [log_probs[i] for i in range(start, end)], num_tokens))
    return likelihoods


def tokenise(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, choice: str, template_kwargs: Mapping[str, Any]
) -> tuple[list[int], int]:
    """Token ids of prompt and choice, and how many of the last ones are scored."""
    if isinstance(prompt, str):
        given_ids, ids = text_ids(tokenizer, prompt.rstrip()), text_ids(tokenizer, prompt + choice)
    else:
        rendered = prompt_text(tokenizer, prompt, template_kwargs)
        given_ids, ids = (chat_ids(tokenizer, text) for text in (rendered.rstrip(), rendered + choice))
    num_scored = len(ids) - len(given_ids)
    if not given_ids or not choice.strip() or num_scored < 1:
        raise ValueError(f"The choice {choice!r} follows a prompt of {len(given_ids)} tokens. Neither may be empty.")
    return ids, num_scored


def check_lengths(sequences: Sequence[tuple[list[int], int]], max_positions: int | None) -> None:
    longest = max((len(ids) for ids, _ in sequences), default=0)
    if max_positions is not None and longest > max_positions:
        raise ValueError(
            f"A prompt with its choice has {longest} tokens, more than the {max_positions} positions of the model. "
            "Leave such rows out."
        )


@torch.no_grad()
def sequence_log_probs(model: PreTrainedModel | PeftModel, batch: Sequence[tuple[list[int], int]]) -> list[float]:
    """The summed log-probability of each row's scored ids; rows are padded on the right."""
    rows = [torch.tensor(ids) for ids, _ in batch]
    input_ids_BL = pad_sequence(rows, batch_first=True).to(model.device)
    mask_BL = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(model.device)
    logits_BLV = model(input_ids=input_ids_BL, attention_mask=mask_BL, use_cache=False).logits
    return [_sum_log_probs(logits_BLV[i], *batch[i]) for i in range(len(batch))]


def _sum_log_probs(logits_LV: Tensor, ids: list[int], num_scored: int) -> float:
    """Example: ids [p0 p1 c0 c1] with two scored; the logits at p1 predict c0, those at c0 predict c1."""
    end = len(ids)
    log_prob_CV = logits_LV[end - num_scored - 1 : end - 1].float().log_softmax(-1)
    scored_C1 = torch.tensor(ids[end - num_scored :], device=logits_LV.device)[:, None]
    return log_prob_CV.gather(1, scored_C1).sum().item()
