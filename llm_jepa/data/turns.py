"""The turns of a conversation: which column has them, in which form, and which of them may be a target."""

from collections.abc import Collection, Mapping
from typing import Any

Messages = list[dict[str, Any]]

TURN_COLUMNS = ("messages", "conversations")
"""What a column of turns is called, the first of these that a data set has."""
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""Who speaks in ShareGPT's turns -> the role; others, such as `system`, are called as in chat messages."""


def turn_column(columns: Collection[str]) -> str | None:
    """The column that holds a data set's turns, if it has one."""
    return next((name for name in TURN_COLUMNS if name in columns), None)


def to_messages(turns: Any, column: str) -> Messages:
    """Chat messages of a row's turns, which have a `role` and a `content`, or, as ShareGPT's, a `from` and a `value`.

    Raises:
        ValueError: These are no turns.
    """
    if not isinstance(turns, list):
        advice = " If it is JSON, write the list itself." if isinstance(turns, str) else ""
        raise ValueError(f"`{column}` is {type(turns).__name__}, not a list of chat messages.{advice}")
    return [_to_message(turn, column) for turn in turns]


def _to_message(turn: Any, column: str) -> dict[str, Any]:
    if isinstance(turn, Mapping) and {"role", "content"} <= turn.keys():
        return dict(turn)
    if isinstance(turn, Mapping) and {"from", "value"} <= turn.keys():
        return {"role": ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}
    raise ValueError(
        f"`{column}` holds {turn!r:.60}; a chat message has a `role` and a `content`, or a `from` and a `value`."
    )


def target_turns(messages: Messages) -> list[int]:
    """The positions of the assistant turns that have a text and a user turn before them: what may be a target.

    Raises:
        ValueError: There is none.
    """
    first_user = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages))
    found = [
        i
        for i, message in enumerate(messages)
        if i > first_user and message["role"] == "assistant" and str(message["content"] or "").strip()
    ]
    if not found:
        roles = [message["role"] for message in messages]
        raise ValueError(f"no assistant turn with a text follows a user turn among the roles {roles}.")
    return found


def last_content(messages: Messages, role: str) -> Any:
    """What the last turn of a role holds.

    Raises:
        ValueError: There is no such turn.
    """
    for message in reversed(messages):
        if message["role"] == role:
            return message["content"]
    raise ValueError(f"there is no {role} turn among the roles {[message['role'] for message in messages]}.")
