"""Reads a view's text from a row: from a column, a field nested in a column, or a Jinja template of columns.

An expression is resolved in this order. (1) A column of exactly that name, dots included. (2) A template, if it
contains `{{` or `{%`. (3) A path whose dots lead into a column, `example.question.text`; a number is an index into a
list, `answers.text.0`.
"""

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

from jinja2 import StrictUndefined, Template, Undefined, meta
from jinja2.exceptions import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_SIGNS = ("{{", "{%")


class MissingViewError(ValueError):
    """A row has no value for a view: the field is null or does not exist."""


@dataclass(frozen=True)
class ViewField:
    """The place of a view's text in a row.

    Attributes:
        expression: As the user gave it.
        columns: The columns that it reads.
        keys: The path into the one column: names of fields and indices into lists.
        is_template: Whether the expression is a Jinja template.
    """

    expression: str
    columns: tuple[str, ...]
    keys: tuple[str, ...] = ()
    is_template: bool = False

    def text(self, example: Mapping[str, Any]) -> str:
        """The view's text in a row.

        Raises:
            MissingViewError: It is null or does not exist.
            ValueError: It is not a string, or the template fails.
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
            held = f"{kind} {self.expression!r} holds {type(value).__name__}, not a string."
            raise ValueError(held + self._template_advice(value))
        return value

    def _template_advice(self, value: Any) -> str:
        """The templates that write a value as text, and the texts that they would write."""
        if isinstance(value, bool):
            written = {"": str(value), " | tojson": json.dumps(value)}
        elif isinstance(value, int | float):
            written = {"": str(value)}
        elif isinstance(value, date | time | Decimal):
            written = {" | string": str(value)}
        else:
            return ""
        if not can_be_named(self.columns + self.keys):
            return ""
        ways = (f"`{{{{ {self.expression}{end} }}}}` to train on it as {text!r}" for end, text in written.items())
        return f" Write {' or '.join(ways)}."

    def _item(self, value: Any, key: str, path: str) -> Any:
        if isinstance(value, Mapping) and key in value:
            return value[key]
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            return value[int(key)]
        has = f"the fields {list(value)}" if isinstance(value, Mapping) else f"no fields: {value!r:.40}"
        has = f"{len(value)} items" if isinstance(value, list) else has
        raise MissingViewError(f"there is no field {self.expression!r}: {path!r} has {has}.")


def can_be_named(path: Sequence[str]) -> bool:
    """Whether a template can name a field: `answers`, `0` it can, `an answer` it cannot."""
    return path[0].isidentifier() and all(part.isidentifier() or part.isdecimal() for part in path)


def find_fields(expressions: Sequence[str], columns: Sequence[str]) -> list[ViewField]:
    """Resolve expressions against the columns of a data set.

    Raises:
        ValueError: A column does not exist, or a template has a syntax error.
    """
    missing = [name for expression in expressions for name in missing_columns(expression, columns)]
    if missing:
        raise ValueError(f"The data set has no column {', '.join(map(repr, missing))}. It has: {list(columns)}.")
    return [_find(expression, columns) for expression in expressions]


def missing_columns(expression: str, columns: Collection[str]) -> list[str]:
    """The columns that an expression reads and that are not there."""
    return [name for name in _find(expression, columns).columns if name not in columns]


def check_expression(expression: str, option: str) -> None:
    """Check an expression before the data are known.

    Raises:
        ValueError: It is empty, or a template that has a syntax error or names no column.
    """
    if not expression.strip():
        raise ValueError(f"`{option}` is empty; give a column's name or leave it out.")
    if _is_template(expression) and not _template_columns(expression):
        raise ValueError(
            f"`{option}: {expression}` is a template that names no column, so all rows would be alike. "
            "Name a column in it."
        )


def _find(expression: str, columns: Collection[str]) -> ViewField:
    if expression in columns:
        return ViewField(expression, (expression,))
    if _is_template(expression):
        return ViewField(expression, _template_columns(expression), is_template=True)
    parts = expression.split(".")
    for end in range(len(parts) - 1, 0, -1):  # the longest prefix that is a column
        column = ".".join(parts[:end])
        if column in columns:
            return ViewField(expression, (column,), tuple(parts[end:]))
    return ViewField(expression, (expression,))


def _is_template(expression: str) -> bool:
    return any(sign in expression for sign in TEMPLATE_SIGNS)


# --- templates


class _NullError(UndefinedError):
    """A template used a null where it needs a value. The message is the path of the null."""


class _Null(Undefined):
    """A null of a row: false, equal to `none`, not `defined`; an error as text, in a filter, operator or loop."""

    __slots__ = ()
    __str__ = __repr__ = __iter__ = __len__ = __contains__ = Undefined._fail_with_undefined_error
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox in which chat templates are rendered, except that a row's fields take precedence over other names.

    A mapping's field hides its method, as in `order.items`. Every global name is a column: Jinja's own globals, such
    as `range` and `namespace`, are removed.
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
    """Allow only strings and numbers. Converting a null or an undefined value to text raises its own error."""
    if isinstance(value, Undefined):
        return str(value)
    if not isinstance(value, str | int | float):
        raise TypeError(
            f"{value!r:.40} is not a string or a number; `| join`, `| tojson` or `| string` converts it to text"
        )
    return value


def _with_nulls(value: Any, path: str) -> Any:
    """A row's value with each null, however deep, replaced by one that knows its path."""
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
    """Compile once per process. A `ViewField` does not hold the template, since `datasets` hashes and pickles it."""
    return _environment().from_string(expression)


@functools.cache
def _template_columns(expression: str) -> tuple[str, ...]:
    try:
        names = meta.find_undeclared_variables(_environment().parse(expression))
    except TemplateSyntaxError as error:
        raise ValueError(f"{expression!r} is not a Jinja template: {error.message} (line {error.lineno}).") from error
    return tuple(sorted(names))


def _rendered(expression: str, values: dict[str, Any]) -> str:
    name = f"the template {expression!r:.60}"
    try:
        return _template(expression).render({column: _with_nulls(value, column) for column, value in values.items()})
    except _NullError as error:
        remedy = f"write `{{% if {error} %}}...{{% endif %}}` around what needs it"
        raise MissingViewError(f"{name} needs a value, but {str(error)!r} is null; {remedy}.") from error
    except UndefinedError as error:
        raise MissingViewError(f"{name} cannot be rendered: {error}.") from error
    except (TemplateError, TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{name} cannot be rendered: {error}.") from error
