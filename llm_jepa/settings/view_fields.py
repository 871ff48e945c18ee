"""Where a row has a view's text: a column, a field nested in one, or a Jinja template of columns.

A text names the column that is called exactly so, dots and all; else, with `{{` or `{%` in it, it is a template; else
its dots lead into a column: `example.question.text`, and by number into a list: `answers.text.0`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, meta
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
            raise MissingViewError(f"{kind} {self.expression!r} is null or empty.")
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


class _NullError(UndefinedError):
    """A null was asked for what only a value has; the message is its path."""


class _Null(Undefined):
    """A null of a row: false, equal to none and not defined; as text, in a filter, operator or loop an error."""

    __slots__ = ()
    __str__ = __repr__ = __iter__ = __len__ = __contains__ = Undefined._fail_with_undefined_error
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)


class _Environment(ImmutableSandboxedEnvironment):
    """What chat templates are rendered in, but that a row's fields come before all else that has a name.

    A mapping's field comes before its method, `order.items`, and every name is a column's: Jinja's `range`,
    `namespace` and the like are not there.
    """

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_text_only)
        self.globals.clear()
        self.tests["none"] = _is_none
        self.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _text_only}

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def _is_none(value: Any) -> bool:
    return value is None or isinstance(value, _Null)


def _text_only(value: Any) -> Any:
    """What may be written; a null's or an undefined value's own error comes when it is made a text."""
    if isinstance(value, Undefined):
        return str(value)
    if not isinstance(value, str | int | float):
        raise TypeError(
            f"{value!r:.40} is no text and no number; `| join`, `| tojson` or `| string` makes a text of it"
        )
    return value


def _with_nulls(value: Any, path: str) -> Any:
    """A row's value in which each null, however deep, is one that knows its path."""
    if value is None:
        return _Null(hint=path, exc=_NullError)
    if isinstance(value, Mapping):
        return {key: _with_nulls(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item, f"{path}.{i}") for i, item in enumerate(value)]
    return value


_environment = functools.cache(_Environment)


@functools.cache
def _template(expression: str) -> Template:
    """Compiled once in every process: it is no part of a `ViewField`, which `datasets` hashes and pickles."""
    return _environment().from_string(expression)


@functools.cache
def _template_columns(expression: str) -> tuple[str, ...]:
    try:
        names = meta.find_undeclared_variables(_environment().parse(expression))
    except TemplateSyntaxError as error:
        raise ValueError(f"{expression!r} is no Jinja template: {error.message} (line {error.lineno}).") from error
    return tuple(sorted(names))


def _rendered(expression: str, values: dict[str, Any]) -> str:
    name = f"the template {expression!r:.60}"
    try:
        return _template(expression).render({column: _with_nulls(value, column) for column, value in values.items()})
    except _NullError as error:
        remedy = f"`{{% if {error} %}}...{{% endif %}}` writes what is there"
        raise MissingViewError(f"{name} needs a value; null here: {str(error)!r}; {remedy}.") from error
    except UndefinedError as error:
        raise MissingViewError(f"{name} cannot be rendered: {error}.") from error
    except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{name} cannot be rendered: {error}.") from error
