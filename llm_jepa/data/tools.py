"""The tools of a row, which its chat template writes into the prompt."""

import json
from typing import Any


def checked_tools(value: Any, is_named: bool) -> Any:
    """The value of a column `tools` if it holds tools: a list, or its JSON; None for a null or a blank text.

    Args:
        value: As the data have it.
        is_named: Whether the recipe names the columns of the views. Then a column `tools` of anything else is not
            read, since nobody asked for it.

    Raises:
        ValueError: It holds something else, beside a conversation.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(_parsed(value), list):
        return value
    if is_named:
        return None
    raise ValueError(
        f"column 'tools' holds {value!r:.60}, not a list of tools or its JSON; the chat template reads it. Rename the "
        "column, or write the tools as a list."
    )


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
