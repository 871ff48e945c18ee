"""The turns of a conversation: the column that holds them, their forms, and which of them can be a target."""

from collections.abc import Collection, Mapping
from typing import Any

Messages = list[dict[str, Any]]

TURN_COLUMNS = ("messages", "conversations")
"""Names of a column of turns. If a data set has both, the first is used."""
SYSTEM_COLUMN = "system"
"""A column beside the turns that holds the text of their system turn, as in LLaMA-Factory's form of ShareGPT."""
SPEAKER_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value")
"""Keys of a turn's speaker and of its text, in chat messages and in ShareGPT's turns; both occur mixed."""
SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""Speaker in ShareGPT's turns -> role in chat messages. Other names, such as `system`, are the same in both."""
UNLEARNED_VALUES: dict[str, tuple[Any, Any]] = {
    "weight": (0, 1),  # OpenAI, Mistral
    "train": (False, True),  # Axolotl
    "training": (False, True),
    "loss": (False, True),  # ms-swift
    "masked": (True, False),  # torchtune
}
"""Mark of a turn -> its value in a turn that is not learned, and in one that is."""
PARTS_MARK = "train_detail"
"""Axolotl's mark of the parts of a turn that are not learned."""


def turn_column(columns: Collection[str]) -> str | None:
    """The column that holds a data set's turns, or None."""
    return next((name for name in TURN_COLUMNS if name in columns), None)


def turn_keys(turn: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of a turn's speaker and of its text; None if it has not both."""
    speaker = next((key for key in SPEAKER_KEYS if key in turn), None)
    text = next((key for key in TEXT_KEYS if key in turn), None)
    return None if speaker is None or text is None else (speaker, text)


def to_messages(turns: Any, column: str) -> Messages:
    """Convert turns to chat messages. A turn has `role` or `from`, and `content` or `value`.

    Raises:
        ValueError: The value is not a list of turns.
    """
    if not isinstance(turns, list):
        advice = " If it is JSON text, parse it and write the list itself." if isinstance(turns, str) else ""
        raise ValueError(f"`{column}` is {type(turns).__name__}, not a list of chat messages.{advice}")
    return [_to_message(turn, column) for turn in turns]


def _to_message(turn: Any, column: str) -> dict[str, Any]:
    keys = turn_keys(turn) if isinstance(turn, Mapping) else None
    if keys is None:
        raise ValueError(
            f"`{column}` holds {turn!r:.60}; a chat message has a `role` and a `content`, or a `from` and a `value`."
        )
    if keys == ("role", "content"):
        return dict(turn)
    speaker, text = turn[keys[0]], turn[keys[1]]
    role = SHAREGPT_ROLES.get(speaker, speaker) if keys[0] == "from" else speaker
    return {"role": role, "content": text} | {
        mark: turn[mark] for mark in (*UNLEARNED_VALUES, PARTS_MARK) if mark in turn
    }


def unlearned_by(message: Mapping[str, Any]) -> str | None:
    """The mark that says that a turn is not learned, such as `weight: 0`; None if there is none.

    Raises:
        ValueError: A mark has a value other than its two, such as `weight: 0.5`, or is one of parts of the turn.
    """
    if message.get(PARTS_MARK):
        raise ValueError(f"a turn has `{PARTS_MARK}`, which marks parts of it. A turn is learned whole or not at all.")
    for mark, (unlearned, learned) in UNLEARNED_VALUES.items():
        value = message.get(mark)
        if value is not None and value not in (unlearned, learned):
            raise ValueError(
                f"a turn has `{mark}: {value}`; allowed are {unlearned} and {learned}. A turn is learned or it is not."
            )
        if value is not None and value == unlearned:
            return f"{mark}: {str(value).lower()}"
    return None


def target_turn_indices(messages: Messages) -> list[int]:
    """The indices of the turns that can be a target: assistant turns with a text, after the first user turn.

    Turns that a mark excludes from learning (`unlearned_by`) are none.

    Raises:
        ValueError: There is none.
    """
    first_user = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages))
    answers = [
        i
        for i, message in enumerate(messages)
        if i > first_user and message["role"] == "assistant" and str(message["content"] or "").strip()
    ]
    if not answers:
        roles = [message["role"] for message in messages]
        raise ValueError(f"no assistant turn with a text follows a user turn among the roles {roles}.")
    learned = [i for i in answers if unlearned_by(messages[i]) is None]
    if not learned:
        mark = unlearned_by(messages[answers[0]])
        raise ValueError(f"no assistant turn is learned: all have a mark such as `{mark}`. Leave the row out.")
    return learned


def refuse_unlearned(turns: Messages, remedy: str) -> None:
    """Raise ValueError if a mark says that an answer of the turns to learn is not learned."""
    marks = [unlearned_by(message) for message in turns if message["role"] == "assistant"]
    mark = next(filter(None, marks), None)
    if mark is not None:
        raise ValueError(f"a turn to learn has `{mark}`, which says that it is not learned. {remedy}")


def with_system_prompt(messages: Messages, system_prompt: str | None) -> Messages:
    """The turns with a system turn of this text before them.

    Raises:
        ValueError: They have a system turn.
    """
    if system_prompt is None:
        return messages
    if messages and messages[0]["role"] == "system":
        raise ValueError("the row already has a system turn. Leave `system_prompt` out.")
    return [{"role": "system", "content": system_prompt}, *messages]


def with_system_column(messages: Messages, text: Any) -> Messages:
    """The turns with the text of the row's column `system` before them, unless they have a system turn of their own.

    Raises:
        ValueError: The column holds no text.
    """
    if text is None or (messages and messages[0]["role"] == "system"):
        return messages
    if not isinstance(text, str):
        raise ValueError(f"the column `{SYSTEM_COLUMN}` is {type(text).__name__}, not the text of a system turn.")
    return with_system_prompt(messages, text) if text.strip() else messages


def last_content(messages: Messages, role: str) -> Any:
    """The content of a role's last turn.

    Raises:
        ValueError: There is no such turn.
    """
    for message in reversed(messages):
        if message["role"] == role:
            return message["content"]
    raise ValueError(f"there is no {role} turn among the roles {[message['role'] for message in messages]}.")
