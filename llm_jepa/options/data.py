"""From the columns of a data set to the rows that are trained on."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class DataOptions:
    """Which rows, and where source, target and views are in them."""

    long_rows: Literal["drop", "error"] = field(
        default="drop",
        metadata={
            "help": "Rows with a sequence longer than `max_length` are dropped and counted, or an error. They are "
            "never cut."
        },
    )
    excluded_rows: str | None = field(
        default=None,
        metadata={
            "help": "A JSON file with a list of row indices, from 0, that training leaves out. `llm-jepa compare` "
            "writes one, so that all arms train on the same rows."
        },
    )
    source_column: str | None = field(
        default=None,
        metadata={
            "help": "Where the source is, unless the data have `messages` or `prompt`/`completion`: the exact name of "
            "a column, the path of a nested field (`example.question.text`), or a Jinja template of columns "
            "(`{{ question }} Schema: {{ schema }}`)."
        },
    )
    target_column: str | None = field(
        default=None, metadata={"help": "Where the target is, written as for `source_column`."}
    )
    source_view_column: str | None = field(
        default=None,
        metadata={
            "help": "Where the source view is, written as for `source_column`, if it is no part of the conversation. "
            "Given with `target_view_column`, for `jepa_objective: pair` and `jepa_source_view: alone`."
        },
    )
    target_view_column: str | None = field(
        default=None, metadata={"help": "Where the target view is, if it is no part of the conversation."}
    )
    view_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "In place of `source_column` and `target_column`: where each of two or more views is. A row "
            "becomes one row for each pair of views, the earlier view its source."
        },
    )
    view_pairs: Literal["chain", "all"] | None = field(
        default=None,
        metadata={
            "help": "Which pairs of `view_columns`: each view with the next (`chain`, the default), or with every "
            "later one (`all`)."
        },
    )
    missing_views: Literal["error", "skip"] = field(
        default="error",
        metadata={
            "help": "A view of `view_columns` that is null or blank is an error, or its pairs are skipped and counted."
        },
    )
    source_turn: Literal["last", "first"] = field(
        default="last",
        metadata={"help": "Which user turn before the target is the source, in data with `messages` or the like."},
    )
    target_turn: Literal["last", "first", "all"] = field(
        default="last",
        metadata={
            "help": "Which assistant turn of `messages` is the target: the one that ends them, the first after a user "
            "turn, or every one after a user turn, each in a row of its own that ends with it. That turn alone has "
            "labels."
        },
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System turn before every conversation; views are encoded without it."},
    )
    chat_template_kwargs: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "What the chat template gets beside the turns, in training as in evaluation, e.g. "
            "`{enable_thinking: false}` for Qwen3. A column of this name in the data goes before."
        },
    )
