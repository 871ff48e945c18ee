"""Whether a model's cache may be copied, so that several sequences go on from one prefix."""

from typing import Any

from transformers.cache_utils import DynamicLayer, LinearAttentionLayer


def can_be_shared(cache: Any) -> bool:
    """Whether sequences can go on from copies of a cache: it holds keys and values, and no recurrent state."""
    is_kv = (isinstance(layer, DynamicLayer) for layer in cache.layers)
    return all(is_kv) and not any(isinstance(layer, LinearAttentionLayer) for layer in cache.layers)
