"""Trains a text decoder on answers and their embeddings; the model of the embeddings stays as it is.

Legend: N answers of a step, M different answers, E the width of the embeddings.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup, set_seed

from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_errors_explained
from llm_jepa.options.text_decoder import TextDecoderOptions
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.text_decoder import DecoderFacts, TextDecoder

WARMUP_SHARE = 0.1
MAX_GRAD_NORM = 1.0
LAST_STEPS = 20
"""The logged loss is the mean of as many."""


@dataclass(frozen=True)
class DecoderTraining:
    """What training did.

    Attributes:
        parameters, trained_parameters: Of the decoder.
        loss: The mean over the last steps.
    """

    rows: int
    different_answers: int
    steps: int
    seconds: float
    parameters: int
    trained_parameters: int
    loss: float


def train_text_decoder(
    model: VLJEPAModel,
    answers: Sequence[str],
    language_model: str,
    options: TextDecoderOptions,
    checkpoint: str,
    progress: Callable[[int], None] = lambda number: None,
) -> tuple[TextDecoder, DecoderTraining]:
    """A decoder of a model's embeddings, on the model's device, in evaluation.

    Embeddings are those of `encode_text`, scaled to length 1. Noise is added because a prediction stands beside the
    embedding of its answer (CapDec, arXiv 2211.00575).

    Args:
        answers: Those of the training rows; one that comes often is learned often.
        language_model: A known model, a directory or a Hub id.
        checkpoint: Digest of the model's weights.
        progress: Called with 1 after each step.

    Raises:
        ValueError: The language model cannot be loaded, or has too few layers.
    """
    start = time.perf_counter()
    set_seed(options.seed)
    facts = DecoderFacts(model.config.embedding_size, options.num_prefix_vectors, checkpoint)
    with load_errors_explained(f"The language model of the decoder, `{language_model}`,"):
        decoder = TextDecoder.from_language_model(resolve_model(language_model), options.num_layers, facts)
    decoder.to(model.device).train()
    answers = [answer.strip() for answer in answers]
    place = {answer: i for i, answer in enumerate(dict.fromkeys(answers))}
    unit_ME = F.normalize(model.encode_text([*place]), dim=-1)
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate)
    warmup_steps = math.ceil(WARMUP_SHARE * options.num_steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup_steps, options.num_steps)
    losses: list[float] = []
    for batch in _batches(len(answers), options.batch_size, options.num_steps):
        texts = [answers[row] for row in batch]
        unit_NE = unit_ME[[place[text] for text in texts]]
        loss = decoder.loss((unit_NE + noise_like(unit_NE, options.noise)).to(model.device), texts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses = [*losses, loss.item()][-LAST_STEPS:]
        progress(1)
    training = DecoderTraining(
        rows=len(answers),
        different_answers=len(place),
        steps=options.num_steps,
        seconds=time.perf_counter() - start,
        parameters=sum(parameter.numel() for parameter in decoder.parameters()),
        trained_parameters=sum(parameter.numel() for parameter in trained),
        loss=sum(losses) / len(losses),
    )
    return decoder.eval(), training


def noise_like(unit_NE: Tensor, length: float) -> Tensor:
    """Gaussian noise_NE whose rows have this length in the root mean square: each number has length / sqrt(E)."""
    return torch.randn_like(unit_NE) * length / math.sqrt(unit_NE.shape[-1])


def _batches(num_rows: int, batch_size: int, num_steps: int) -> Iterator[list[int]]:
    """Rows in a new order each time all have come; a batch may span two orders."""
    waiting: list[int] = []
    for _ in range(num_steps):
        while len(waiting) < batch_size:
            waiting += torch.randperm(num_rows).tolist()
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]
