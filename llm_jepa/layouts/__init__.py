"""Ways to compute the sequences of a row: each as a row of its own, all one after another, or all as a trie."""

from llm_jepa.layouts.base import Batch, Example, Layout
from llm_jepa.layouts.flat import FlatLayout
from llm_jepa.layouts.packed import PackedLayout
from llm_jepa.layouts.rows import RowsLayout

__all__ = ["Batch", "Example", "FlatLayout", "Layout", "PackedLayout", "RowsLayout"]
