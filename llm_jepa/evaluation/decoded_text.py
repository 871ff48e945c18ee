"""How often a text decoder writes the right answer, letter for letter, of held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from llm_jepa.scoring.exact import is_strict_match
from llm_jepa.scoring.tasks import Rate
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.retrieval import answer_ranks
from llm_jepa.vision.rows import answer_key
from llm_jepa.vision.text_decoder import TextDecoder


@dataclass(frozen=True)
class DecodedText:
    """What is right of the same rows.

    Attributes:
        predictions: The text of the prediction is the answer.
        answers: The text of the answer's own embedding is the answer: what the decoder itself loses.
        nearest: The answer is nearer to the prediction than all other answers of the rows, without a decoder.
    """

    predictions: Rate
    answers: Rate
    nearest: Rate


def score_decoded_text(
    model: VLJEPAModel, decoder: TextDecoder, prediction_NE: NDArray, answers: Sequence[str]
) -> DecodedText:
    """Decode predictions and answers of rows, and count.

    Args:
        prediction_NE: Of N rows, by the model; E is the width of the embeddings.
    """
    place = {answer: i for i, answer in enumerate(dict.fromkeys(answers))}
    target_ME = model.encode_text([*place])
    written = dict(zip(place, decoder.write(target_ME), strict=True))
    target_NE = target_ME[[place[answer] for answer in answers]].numpy()
    keys = np.array([answer_key(answer) for answer in answers])
    ranks = answer_ranks(prediction_NE, target_NE, keys)
    return DecodedText(
        predictions=_matches(decoder.write(torch.from_numpy(prediction_NE)), answers),
        answers=_matches([written[answer] for answer in answers], answers),
        nearest=Rate(sum(rank == 1 for rank in ranks), len(ranks)),
    )


def _matches(texts: Sequence[str], answers: Sequence[str]) -> Rate:
    hits = sum(is_strict_match(text, answer) for text, answer in zip(texts, answers, strict=True))
    return Rate(hits, len(answers))
