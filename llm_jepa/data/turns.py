"""The turns of a conversation: the column that holds them, their two forms, and which of them can be a target."""

from collections.abc import Collection, Mapping
from typing import Any

Messages = list[dict[str, Any]]

TURN_COLUMNS = ("messages", "conversations")
"""Names of a column of turns. If a data set has both, the first is used."""
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""Speaker in ShareGPT's turns -> role in chat messages. Other names, such as `system`, are the same in both."""


def turn_column(columns: Collection[str]) -> str | None:
    """The column that holds a data set's turns, or None."""
    return next((name for name in TURN_COLUMNS if name in columns), None)


def to_messages(turns: Any, column: str) -> Messages:
    """Convert turns to chat messages. A turn has `role` and `content`, or, in ShareGPT's form, `from` and `value`.

    Raises:
        ValueError: The value is not a list of turns.
    """
    if not isinstance(turns, list):
        advice = " If it is JSON text, parse it and write the list itself." if isinstance(turns, str) else ""
        raise ValueError(f"`{column}` is {type(turns).__name__}, not a list of chat messages.{advice}")
    return [_to_message(turn, column) for turn in turns]


def _to_message(turn: Any, column: str) -> dict[str, Any]:
    if isinstance(turn, Mapping) and {"role", "content"} <= turn.keys():
        return dict(turn)
    if isinstance(turn, Mapping) and {"from", "value"} <= turn.keys():
        return {"role": SHAREGPT_ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}
    raise ValueError(
        f"`{column}` holds {turn!r:.60}; a chat message has a `role` and a `content`, or a `from` and a `value`."
    )


def target_turn_indices(messages: Messages) -> list[int]:
    """The indices of the turns that can be a target: assistant turns with a text, after the first user turn.

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
    """The content of a role's last turn.

    Raises:
        ValueError: There is no such turn.
    """
    for message in reversed(messages):
        if message["role"] == role:
            return message["content"]
    raise ValueError(f"there is no {role} turn among the roles {[message['role'] for message in messages]}.")
