"""Layouts of a row's sequences: each a stored row, all one after another, or all in a trie. Imports `data`."""

from llm_jepa.layouts.base import Batch, Example, LaidOut, Layout
from llm_jepa.layouts.flat import FlatLayout
from llm_jepa.layouts.packed import PackedLayout
from llm_jepa.layouts.rows import RowsLayout

__all__ = ["Batch", "Example", "FlatLayout", "LaidOut", "Layout", "PackedLayout", "RowsLayout"]
