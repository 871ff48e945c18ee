"""What reads the value of an argument. Imports nothing heavy."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from llm_jepa.models.checkpoint_choice import check_names

DECODINGS = ("latent", "likelihood", "shortlist", "generate")
"""Those of `llm_jepa.evaluation.decodings`; a test holds them equal."""
SHORTLIST = 5
"""How many of the nearest answers a likelihood is computed of."""
NEW_TOKENS = 128
"""Limit of a text that `latency` has generated."""

GENERATION_METHODS = ("draft", "plain", "prompt_lookup")
"""Those of `llm_jepa.inference.text_generation`; a test holds them equal."""
DTYPES = ("float32", "bfloat16", "float16")


def at_least(minimum: int) -> Callable[[str], int]:
    """Reads a whole number that is not below a minimum."""

    def read(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return int(text)

    return read


def utf8(text: str) -> str:
    """A text whose bytes the terminal gave in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8. Convert the text") from error
    return text


def checkpoints(text: str) -> list[str]:
    """Names of checkpoints with commas between them."""
    names = text.split(",")
    try:
        check_names(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return names


def decodings(text: str) -> list[str]:
    """Names of decodings with commas between them: from candidates, or of generated text."""
    names = text.split(",")
    one_kind = {*names} <= {*DECODINGS} or {*names} <= {*GENERATION_METHODS}
    if not one_kind or len({*names}) < len(names):
        kinds = f"{', '.join(DECODINGS)}; or {', '.join(GENERATION_METHODS)}"
        raise argparse.ArgumentTypeError(f"{text!r}; allowed are {kinds}, each once")
    return names


def margin(text: str) -> float | str:
    """A margin of at least 0, or `auto`."""
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of at least 0 nor auto")
    return value


def drafted_tokens(text: str) -> int | str:
    """A number of tokens of at least 1, or `auto`."""
    return text if text == "auto" else at_least(1)(text)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object; argparse names this function where the text is none."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(text)
    return content
