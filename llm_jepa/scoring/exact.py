"""Scores that compare a generated text with the gold text, character by character."""


def is_strict_match(prediction: str, gold: str) -> bool:
    """Whether the prediction is the gold and nothing else.

    Both are stripped of surrounding whitespace (`str.strip`) before they are compared; whitespace inside
    counts, and so does case. An empty prediction or gold never matches, not even another empty one.
    """
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction == gold


def is_prefix_match(prediction: str, gold: str) -> bool:
    """Whether the prediction begins with the gold: right, but for what follows. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and prediction.startswith(gold)


def is_contained(prediction: str, gold: str) -> bool:
    """Whether the gold stands anywhere in the prediction. Both are stripped first."""
    prediction, gold = prediction.strip(), gold.strip()
    return gold != "" and gold in prediction
