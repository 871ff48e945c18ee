"""The files of a text decoder in the directory of its run. Imports no torch."""

from pathlib import Path

FOLDER = "text_decoder"
FACTS_FILE = "text_decoder.json"
"""What the decoder belongs to, its options, its training and its scores."""
PREFIX_FILE = "prefix.safetensors"


def has_text_decoder(run: Path) -> bool:
    """Whether the directory of a run holds a text decoder."""
    return (run / FOLDER / FACTS_FILE).is_file()


def no_text_decoder(run: str | Path) -> str:
    """The message on a run without one."""
    return f"`{run}` has no text decoder ({FOLDER}/). Train one: `llm-jepa train-decoder {run}`."
