"""The files of models and tokenizers by their names, and a check that a local model exists."""

from pathlib import Path

MODEL_FILES = ("config.json", "adapter_config.json", "*.gguf")
"""The directory of a model or adapter holds at least one of these."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "tokenization_*.py",
)


def check_local_model(name_or_path: str) -> None:
    """Check that a `model_name_or_path` that is a path holds a model; the name of a known model or a Hub id passes.

    Raises:
        ValueError: There is no such directory, or it holds no model.
    """
    if not name_or_path:
        raise ValueError("`model_name_or_path` is empty. Name a model's directory, a Hub id, or a known model.")
    path = Path(name_or_path)
    if path.is_dir():
        if not any(file for pattern in MODEL_FILES for file in path.glob(pattern)):
            raise ValueError(
                f"`model_name_or_path: {name_or_path}` holds no model: none of {', '.join(MODEL_FILES)}. Name a "
                "model's directory, a Hub id, or a known model."
            )
        return
    looks_like_a_path = path.is_absolute() or name_or_path.startswith(("~", ".")) or len(path.parts) > 2
    if path.is_file() or looks_like_a_path:
        raise ValueError(
            f"`model_name_or_path: {name_or_path}` is no directory (looked in {Path.cwd()}). Name a model's "
            "directory, a Hub id, or a known model."
        )
