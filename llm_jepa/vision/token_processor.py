"""`TokenProcessor`: pictures to pixels, questions and answers to the tokens of one causal LM.

Legend: N rows, S tokens of the longest row.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from llm_jepa.vision.processor import (
    QUESTION_FOLDER,
    PictureQuestionProcessor,
    load_image_processor,
    refuse_longer,
    saved_tokenizer,
)


class TokenProcessor(PictureQuestionProcessor):
    """What stands between a row and the tensors of a `TokenVLM`.

    Questions are padded on the left, so that every answer begins at one position. An answer is a space, its text and
    the end of text.
    """

    question_padding = "left"

    @classmethod
    def from_parts(cls, vision_encoder: str, language_model: str, num_frames: int) -> "TokenProcessor":
        """The processor of two models, each a directory or a Hub id."""
        return cls(load_image_processor(vision_encoder), AutoTokenizer.from_pretrained(language_model), num_frames)

    @classmethod
    def from_pretrained(cls, name_or_path: str, num_frames: int, **places: Any) -> "TokenProcessor":
        """The processor that was saved with a model; `places` may name a `revision`."""
        tokenizer = saved_tokenizer(name_or_path, QUESTION_FOLDER, **places)
        return cls(load_image_processor(name_or_path, **places), tokenizer, num_frames)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        end = self.question_tokenizer.eos_token_id
        assert isinstance(end, int), "the tokenizer of a causal LM has an end of text"
        return end

    def answer_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each answer with its end, however many."""
        spaced = [f" {text.strip()}" for text in texts]
        found = self.question_tokenizer(spaced, add_special_tokens=False)["input_ids"]
        return [[*ids, self.end_id] for ids in found]

    def answers(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """ids_NS and is_token_NS. Errors are those of `refuse_longer`."""
        rows = [torch.tensor(ids) for ids in self.answer_ids(texts)]
        refuse_longer(texts, [len(row) for row in rows], max_tokens)
        ids_NS = pad_sequence(rows, batch_first=True, padding_value=self.end_id)
        return ids_NS, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)

    def decode(self, ids: list[int]) -> str:
        """The text of generated tokens."""
        text = self.question_tokenizer.decode(ids, skip_special_tokens=True)
        assert isinstance(text, str)
        return text.strip()
