"""LLM-JEPA fine-tuning on Hugging Face: predict the next token and, of a row's two views, one from the other."""

from llm_jepa.config import JEPAConfig
from llm_jepa.trainer import JEPATrainer, NonFiniteLossError

__all__ = ["JEPAConfig", "JEPATrainer", "NonFiniteLossError"]
