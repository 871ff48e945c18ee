"""P values in words."""

from collections.abc import Collection


def p_in_words(p: float) -> str:
    """A p value with three decimals: 0.018, or < 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equation(p: float) -> str:
    """The same for a sentence: p = 0.018, or p < 0.001."""
    shown = p_in_words(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def p_range(p_values: Collection[float]) -> str:
    """The smallest and the largest p value; one if they read alike."""
    return " to ".join(dict.fromkeys((p_in_words(min(p_values)), p_in_words(max(p_values)))))
