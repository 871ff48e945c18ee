"""The types of the columns of JSON rows, chosen such that Arrow holds every value as it is written.

A column whose values share a type has that type. Any other column, of texts and numbers for example, or of 1 and 0.5,
holds each value as JSON.
"""

import json
import warnings
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeAlias

import datasets
import pyarrow as pa
from datasets import Features, List, Value
from datasets.features.features import register_feature

MIXED: Literal["mixed"] = "mixed"
"""Values that share no type of Arrow's."""
MAX_FIELDS = 256
"""Objects with more names are held as JSON: such names are data."""
INTEGER_BITS = 63
EXACT_COLUMNS = ("tools", "chat_template_kwargs")
"""Columns whose objects a chat template writes: those of one row must not get the fields of another's as nulls."""

ColumnType: TypeAlias = "str | list[ColumnType] | dict[str, ColumnType] | None"
"""None if all are null; a name of Arrow's or `MIXED`; `[type]` of lists; the fields of objects, each of which may lack
some."""


class AnyJson(datasets.Json):
    """A column of JSON values of any types.

    `datasets.Json` reads numbers with less than their digits, refuses integers of more than 64 bits, and takes a text
    such as "2024" for the number.
    """

    _type: ClassVar[str] = "AnyJson"

    def encode_example(self, example_data: Any) -> str | None:
        return None if example_data is None else json.dumps(example_data)

    def decode_example(self, example_data: str | None, token_per_repo_id: Any = None) -> Any:
        return None if example_data is None else json.loads(example_data)


with warnings.catch_warnings(action="ignore"):  # that registering is experimental
    register_feature(AnyJson, "AnyJson")


def widen_types(types: dict[str, ColumnType], row: dict[str, Any]) -> None:
    """Widen the types of columns so that they hold a row's values too."""
    for name, value in row.items():
        known = MIXED if name in EXACT_COLUMNS and isinstance(value, dict | list) else types.get(name)
        if not (known == "string" and type(value) is str):
            types[name] = _widened(known, value)


def features_of(types: dict[str, ColumnType]) -> Features:
    """The features of columns of these types."""
    return Features({name: AnyJson() if _is_mixed(kind) else _feature(kind) for name, kind in types.items()})


def table_of(rows: list[dict[str, Any]], features: Features) -> pa.Table:
    """The rows as a table. A column that a row lacks is null there."""
    arrays = []
    for name, feature in features.items():
        values = [row.get(name) for row in rows]
        if isinstance(feature, AnyJson):
            texts = pa.array(map(feature.encode_example, values), pa.string())
            arrays.append(pa.ExtensionArray.from_storage(feature.pa_type, texts))
        else:
            arrays.append(pa.array(values, features.arrow_schema.field(name).type))
    return pa.Table.from_arrays(arrays, schema=features.arrow_schema)


def with_all_fields(value: Any, kind: ColumnType) -> Any:
    """The value, with a null for every field of its type that it lacks, as Arrow has it."""
    if isinstance(kind, dict) and isinstance(value, dict):
        known = {name: with_all_fields(value.get(name), inner) for name, inner in kind.items()}
        return known | {name: item for name, item in value.items() if name not in known}
    if isinstance(kind, list) and isinstance(value, list) and isinstance(kind[0], dict | list):
        return [with_all_fields(item, kind[0]) for item in value]
    return value


def _widened(kind: ColumnType, value: Any) -> ColumnType:
    if value is None or kind == MIXED:
        return kind
    if isinstance(value, dict):
        return _widened_fields({} if kind is None else kind, value)
    if isinstance(value, list):
        return _widened_items([None] if kind is None else kind, value)
    name = _scalar_name(value)
    return name if kind is None or kind == name else MIXED


def _scalar_name(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return "float64"
    return "int64" if value.bit_length() <= INTEGER_BITS else MIXED


def _widened_fields(fields: ColumnType, value: dict[str, Any]) -> ColumnType:
    if not isinstance(fields, dict):
        return MIXED
    widened = fields | {name: _widened(fields.get(name), item) for name, item in value.items()}
    return widened if len(widened) <= MAX_FIELDS else MIXED


def _widened_items(items: ColumnType, value: Iterable[Any]) -> ColumnType:
    if not isinstance(items, list):
        return MIXED
    kind = items[0]
    for item in value:
        kind = _widened(kind, item)
    return [kind]


def _is_mixed(kind: ColumnType) -> bool:
    """Whether a type is mixed anywhere, or has an object without fields, which Arrow does not store."""
    if isinstance(kind, dict):
        return not kind or any(map(_is_mixed, kind.values()))
    return _is_mixed(kind[0]) if isinstance(kind, list) else kind == MIXED


def _feature(kind: ColumnType) -> Any:
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    if isinstance(kind, list):
        return List(_feature(kind[0]))
    return Value("null" if kind is None else kind)
