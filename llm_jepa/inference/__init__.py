"""Answers in the trained latent space: embeddings, an index of answers, streams. Imports `models` and below."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_jepa.inference.answer_index import AnswerIndex
    from llm_jepa.inference.drafting import Drafter
    from llm_jepa.inference.encoder import LatentEncoder

__all__ = ["AnswerIndex", "Drafter", "LatentEncoder"]

_MODULES = {"AnswerIndex": "answer_index", "Drafter": "drafting", "LatentEncoder": "encoder"}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: refusals read an index's files without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
