"""The files of a text decoder and of tokenizers in the directory of a VL-JEPA run. Imports no torch."""

from pathlib import Path

from llm_jepa.models.weights_digest import weights_digest

QUESTION_FOLDER, ANSWER_FOLDER = "question_tokenizer", "answer_tokenizer"
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


def check_decoder_fits(checkpoint: str, run: Path) -> None:
    """Check that a decoder was trained on the weights that are in the directory of its run.

    Args:
        checkpoint: The digest of the weights that it was trained on.

    Raises:
        ValueError: It was not.
    """
    if weights_digest(run) != checkpoint:
        raise ValueError(
            f"`{run / FOLDER}` was trained on other weights than those of the run. Delete it, and train it again: "
            f"`llm-jepa train-decoder {run}`."
        )
