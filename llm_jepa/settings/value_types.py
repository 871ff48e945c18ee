"""Refuses values given in Python whose type the reader of a recipe would never make: numbers and truth values."""

from numbers import Integral, Real
from typing import Any

from llm_jepa.settings.schema import Kind, Setting, known_settings

NUMBER_TYPES: dict[str, type] = {"integer": Integral, "number": Real}


def check_value_types(options: Any, kind: Kind = "text") -> None:
    """Check the toolkit's own options that are numbers, truth values, or lists of numbers.

    Args:
        options: `JEPAConfig` or `VisionConfig`, or a namespace of the same.

    Raises:
        ValueError: A value is of another type; a truth value is no number.
    """
    for name, setting in known_settings(kind).items():
        if setting.owner == "llm_jepa" and not _fits(getattr(options, name), setting):
            raise ValueError(setting.mistake(name, getattr(options, name)))


def _fits(value: Any, setting: Setting) -> bool:
    types = {*setting.types}
    if setting.item is not None and isinstance(value, list):
        return all(_fits(item, setting.item) for item in value)
    if not types & {"boolean", *NUMBER_TYPES} or types & {"string", "array"} or value in setting.choices:
        return True
    if value is None or isinstance(value, bool):
        return ("null" if value is None else "boolean") in types
    return any(isinstance(value, NUMBER_TYPES[kind]) for kind in types & {*NUMBER_TYPES})
