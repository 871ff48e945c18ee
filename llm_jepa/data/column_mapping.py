"""The options that say where a row has its views, and how its conversation is built."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from llm_jepa.config import JEPAConfig

PAIR_COLUMNS = ("view_pair_source", "view_pair_target")
"""The source and target of a row that `view_columns` has expanded into several pairs."""


@dataclass(frozen=True)
class ColumnMapping:
    """The options of `JEPAConfig` that say where a row has its views, and how its conversation is built.

    If no column is named, the row is read as `prompt`/`completion`, `messages` or `conversations`.
    """

    source_column: str | None = None
    target_column: str | None = None
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    source_turn: Literal["last", "first"] = "last"
    target_turn: Literal["last", "first", "all"] = "last"
    source_view_column: str | None = None
    target_view_column: str | None = None
    view_columns: tuple[str, ...] | None = None
    view_pairs: Literal["chain", "all"] | None = None
    missing_views: Literal["error", "skip"] = "error"

    @classmethod
    def from_args(cls, args: "JEPAConfig") -> "ColumnMapping":
        """The mapping of a configuration."""
        options = {field.name: getattr(args, field.name) for field in fields(cls)}
        return cls(**options | {"view_columns": tuple(args.view_columns) if args.view_columns else None})

    @property
    def pair(self) -> tuple[str, str] | None:
        """The columns of source and target, or None if none are named."""
        if self.view_columns is not None:
            return PAIR_COLUMNS
        if self.source_column is None or self.target_column is None:
            return None
        return self.source_column, self.target_column

    @property
    def own_views(self) -> tuple[str, str] | None:
        """The columns of the two views if they are no part of the conversation."""
        if self.source_view_column is None or self.target_view_column is None:
            return None
        return self.source_view_column, self.target_view_column

    @property
    def makes_several_rows(self) -> bool:
        """Whether a row of the data may become several, so that rows are numbered anew."""
        return self.view_columns is not None or self.target_turn == "all"

    def of_conversation(self) -> "ColumnMapping":
        """The mapping without the columns of views: what is asked and answered lies in the conversation."""
        return replace(self, source_view_column=None, target_view_column=None)

    def given_options(self) -> list[str]:
        """The names of the options that differ from their defaults."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]
