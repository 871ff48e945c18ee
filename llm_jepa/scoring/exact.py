"""Scores that compare a generated text with the gold text character by character."""


def is_strict_match(prediction: str, gold: str) -> bool:
    """Whether the prediction equals the gold.

    Both are first stripped of surrounding whitespace (`str.strip`). Inner whitespace and case count. An empty
    prediction or gold never matches, not even another empty one.
    """
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction == gold


def is_prefix_match(prediction: str, gold: str) -> bool:
    """Whether the prediction begins with the gold. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction.startswith(gold)


def is_contained(prediction: str, gold: str) -> bool:
    """Whether the prediction contains the gold. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and gold in prediction
