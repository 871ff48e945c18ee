"""Takes the answer out of a text that holds more: a query or code in a fenced block, as chat models write it."""

import re
from typing import Literal, get_args

Extract = Literal["none", "fence"]
EXTRACTS: tuple[Extract, ...] = get_args(Extract)

_FENCED_BLOCK = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^`\n]*\n"  # ```sql
    r"(?P<body>.*?)"
    r"(?:^ {0,3}(?P=fence)[`~]*[ \t\r]*$|\Z)",  # ```, or the end of a text that was cut off
    re.MULTILINE | re.DOTALL,
)


def extracted(text: str, extract: Extract) -> str:
    """The answer in a text: the text itself (`none`), or the body of its first fenced block (`fence`).

    A text without a fenced block is its own answer. The first line of a fence may name a language.

    Example: of "Here:\\n```sql\\nSELECT 1\\n```\\nDone." it is "SELECT 1\\n".
    """
    block = _FENCED_BLOCK.search(text) if extract == "fence" else None
    return text if block is None else block["body"]
