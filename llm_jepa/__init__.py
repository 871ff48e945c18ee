"""LLM-JEPA fine-tuning on Hugging Face: predict the next token and, of a row's two views, one from the other."""

import importlib
from typing import TYPE_CHECKING, Any

from llm_jepa.entry import drop_needless_warnings

if TYPE_CHECKING:
    from llm_jepa.config import JEPAConfig
    from llm_jepa.trainer import JEPATrainer, NonFiniteLossError

__all__ = ["JEPAConfig", "JEPATrainer", "NonFiniteLossError"]

_MODULES = {"JEPAConfig": "config", "JEPATrainer": "trainer", "NonFiniteLossError": "trainer"}

drop_needless_warnings()  # before any module of the package imports the libraries that give them


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: torch and TRL take seconds, and `llm-jepa --help` needs neither."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
