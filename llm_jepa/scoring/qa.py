"""Match of a short answer with any of several golds, after normalisation: the exact match of SQuAD and NQ-Open."""

import re
import string
import unicodedata
from collections.abc import Sequence

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalise_answer(text: str) -> str:
    """Lower the case, drop ASCII punctuation, then the articles a, an, the, then all whitespace but single spaces.

    The order is that of SQuAD's scorer; accents are first decomposed (NFD), as in ORQA's scorer of NQ-Open.
    lm-eval's task `nq_open` drops articles before punctuation, and only where a space follows, and keeps inner
    whitespace: the same on most answers, not on all.
    """
    text = unicodedata.normalize("NFD", text).lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def qa_match(predicted: str, golds: Sequence[str]) -> bool:
    """Whether the prediction is one of the golds, both normalised.

    An answer that normalises to nothing ("", "The", "...") is wrong. A gold that does so can therefore not be met,
    and is passed over.

    Raises:
        ValueError: `golds` is one text, is empty, or holds only golds that normalise to nothing.
    """
    if isinstance(golds, str):
        raise ValueError(f"`golds` is the text {golds!r}; give a list of texts.")
    wanted = {normalise_answer(gold) for gold in golds} - {""}
    if not wanted:
        raise ValueError(f"The golds {list(golds)!r} leave nothing to compare with. Give one with a word in it.")
    return normalise_answer(predicted) in wanted
