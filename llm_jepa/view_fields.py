"""Where a row has a view's text: a column, a field nested in one, or a Jinja template of columns.

A text names the column that is called exactly so, dots and all; else, with `{{` or `{%` in it, it is a template; else
its dots lead into a column: `example.question.text`, and by number into a list: `answers.text.0`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, meta
from jinja2.exceptions import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_SIGNS = ("{{", "{%")


class MissingViewError(ValueError):
    """A row has nothing where a view should be: null, or no such field."""


@dataclass(frozen=True)
class ViewField:
    """Where a view is found in a row.

    Attributes:
        expression: As it was given.
        columns: The columns that it reads.
        keys: What leads into the one column: names of fields, positions in lists.
        is_template: Whether the expression is rendered.
    """

    expression: str
    columns: tuple[str, ...]
    keys: tuple[str, ...] = ()
    is_template: bool = False

    def text(self, example: Mapping[str, Any]) -> str:
        """The view's text in a row.

        Raises:
            MissingViewError: It is null or not there.
            ValueError: It is no text, or the template fails.
        """
        if self.is_template:
            return _rendered(self.expression, {name: example[name] for name in self.columns})
        value = example[self.columns[0]]
        path = self.columns[0]
        for key in self.keys:
            value, path = self._item(value, key, path), f"{path}.{key}"
        kind = "field" if self.keys else "column"
        if value is None:
            raise MissingViewError(f"{kind} {self.expression!r} holds NoneType, not a string.")
        if not isinstance(value, str):
            advice = f" Write `{{{{ {self.expression} }}}}` to have it as text." if self._suits_template(value) else ""
            raise ValueError(f"{kind} {self.expression!r} holds {type(value).__name__}, not a string.{advice}")
        return value

    def _suits_template(self, value: Any) -> bool:
        is_name = all(part.isidentifier() or part.isdecimal() for part in (*self.columns, *self.keys))
        return isinstance(value, int | float) and is_name

    def _item(self, value: Any, key: str, path: str) -> Any:
        if isinstance(value, Mapping) and key in value:
            return value[key]
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            return value[int(key)]
        has = f"the fields {list(value)}" if isinstance(value, Mapping) else f"no fields: {value!r:.40}"
        has = f"{len(value)} items" if isinstance(value, list) else has
        raise MissingViewError(f"there is no field {self.expression!r}: {path!r} has {has}.")


def find_fields(expressions: Sequence[str], columns: Sequence[str]) -> list[ViewField]:
    """Where the views are found in a data set of these columns.

    Raises:
        ValueError: It lacks a column that they name, or one of them is no template.
    """
    found = [_find(expression, columns) for expression in expressions]
    missing = [name for field in found for name in field.columns if name not in columns]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}. It has: {list(columns)}.")
    return found


def check_expression(expression: str, option: str) -> None:
    """Check what can be known of an expression without data.

    Raises:
        ValueError: It is empty, or a template that cannot be read or names no column.
    """
    if not expression.strip():
        raise ValueError(f"`{option}` is empty; give a column's name or leave it out.")
    if _is_template(expression) and not _template_columns(expression):
        raise ValueError(f"`{option}: {expression}` is a template that names no column, so that all rows are alike.")


def _find(expression: str, columns: Sequence[str]) -> ViewField:
    if expression in columns:
        return ViewField(expression, (expression,))
    if _is_template(expression):
        return ViewField(expression, _template_columns(expression), is_template=True)
    parts = expression.split(".")
    for end in range(len(parts) - 1, 0, -1):  # the longest name that is a column's
        column = ".".join(parts[:end])
        if column in columns:
            return ViewField(expression, (column,), tuple(parts[end:]))
    return ViewField(expression, (expression,))


def _is_template(expression: str) -> bool:
    return any(sign in expression for sign in TEMPLATE_SIGNS)


# --- templates


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise MissingViewError
    return value


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are rendered in, but that null and what is undefined are errors, and no text."""
    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_refuse_null
    )


@functools.cache
def _template(expression: str) -> Template:
    """Compiled once in every process: it is no part of a `ViewField`, which `datasets` hashes and pickles."""
    return _environment().from_string(expression)


@functools.cache
def _template_columns(expression: str) -> tuple[str, ...]:
    environment = _environment()
    try:
        names = meta.find_undeclared_variables(environment.parse(expression))
    except TemplateSyntaxError as error:
        raise ValueError(f"{expression!r} is no Jinja template: {error.message} (line {error.lineno}).") from error
    return tuple(sorted(names - environment.globals.keys()))


def _rendered(expression: str, values: dict[str, Any]) -> str:
    name = f"the template {expression!r:.60}"
    try:
        return _template(expression).render(values)
    except MissingViewError as error:
        nulls = ", ".join(map(repr, _null_fields(values)))
        raise MissingViewError(f"{name} would write a null as text; null here: {nulls}.") from error
    except UndefinedError as error:
        raise MissingViewError(f"{name} cannot be rendered: {error}.") from error
    except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{name} cannot be rendered: {error}.") from error


def _null_fields(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all nulls in a row's values."""
    if value is None:
        yield path
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _null_fields(item, f"{path}.{key}" if path else str(key))
