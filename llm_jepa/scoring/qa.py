"""Matches a short answer with several golds after normalisation: the exact match of SQuAD and NQ-Open."""

import re
import string
import unicodedata
from collections.abc import Sequence

from llm_jepa.scoring.gold import GoldError

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalise_answer(text: str) -> str:
    """Lowercase a text; remove ASCII punctuation, then the articles a, an, the; reduce whitespace to single spaces.

    The order is that of SQuAD's scorer; accents are decomposed first (NFD), as in ORQA's scorer of NQ-Open. lm-eval's
    task `nq_open` removes articles before punctuation, only before a space, and keeps inner whitespace: the result is
    the same for most answers, but not for all.
    """
    text = unicodedata.normalize("NFD", text).lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def qa_match(predicted: str, golds: Sequence[str]) -> bool:
    """Whether the prediction is one of the golds, both normalised.

    An answer that normalises to an empty text ("", "The", "...") is wrong, and such a gold is ignored.

    Raises:
        ValueError: `golds` is one text.
        GoldError: It is empty, or holds only golds that normalise to an empty text.
    """
    return normalise_answer(predicted) in normalise_golds(golds)


def normalise_golds(golds: Sequence[str]) -> set[str]:
    """The golds, normalised, without empty ones; raises as `qa_match` does."""
    if isinstance(golds, str):
        raise ValueError(f"`golds` is the text {golds!r}; give a list of texts.")
    wanted = {normalise_answer(gold) for gold in golds} - {""}
    if not wanted:
        raise GoldError(
            "the gold has no word", f"The golds {list(golds)!r} normalise to empty texts. Give one with a word in it."
        )
    return wanted
