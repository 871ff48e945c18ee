"""Writes the JSON schemas of recipes from the dataclasses that a recipe configures: `make schema`."""

import dataclasses
import inspect
import json
import types
import typing
from enum import Enum
from typing import Any, Literal, Union

from llm_jepa.config import own_fields
from llm_jepa.files.atomic import write_atomically
from llm_jepa.recipe import CONFIGURATIONS
from llm_jepa.settings.objectives import OWN_OBJECTIVE, ObjectiveName, ObjectiveNames
from llm_jepa.settings.reading import idle_keys
from llm_jepa.settings.schema import DEFINED_BY, PATH_OR_MAPPING, SCHEMA_FILES, Kind
from llm_jepa.vision.config import VisionConfig, vision_fields

JSON_TYPES: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    types.NoneType: "null",
}


TITLES: dict[Kind, str] = {"text": "A recipe of llm-jepa", "vision": "A recipe of llm-jepa for VL-JEPA"}


def recipe_schema(kind: Kind = "text") -> dict[str, Any]:
    """The schema: a property for each key that has an effect, the toolkit's own first."""
    own = own_fields() if kind == "text" else vision_fields()
    properties: dict[str, Any] = dict.fromkeys(own)
    for configuration in CONFIGURATIONS if kind == "text" else (VisionConfig,):
        hints = typing.get_type_hints(configuration)
        for field in dataclasses.fields(configuration):
            if field.init and field.name not in idle_keys(kind):
                owner = "llm_jepa" if field.name in own else "trl"
                properties[field.name] = {**_property(field, hints[field.name]), DEFINED_BY: owner}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": TITLES[kind],
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def schema_text(kind: Kind = "text") -> str:
    """The schema as its file has it, a line for each key."""
    schema = recipe_schema(kind)
    properties = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(content, ensure_ascii=False)}"
        for key, content in schema.pop("properties").items()
    )
    head = json.dumps(schema, indent=1).removesuffix("\n}")
    return f'{head},\n "properties": {{\n{properties}\n }}\n}}\n'


def _property(field: dataclasses.Field, hint: Any) -> dict[str, Any]:
    content = _allowed(hint, tuple(field.metadata.get("choices", ())))
    if "object" in content.get("type", ()) and field.name not in PATH_OR_MAPPING:
        content["type"] = [kind for kind in content["type"] if kind != "string"]
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    content["default"] = default.value if isinstance(default, Enum) else default
    content["description"] = " ".join(str(field.metadata.get("help", "")).replace("%%", "%").split())
    return content


def _allowed(hint: Any, choices: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a type hint, e.g. `str | list[str] | None`, allows. An Enum or Literal closes the set of texts, unless
    `ObjectiveName` says that a file may be named too.
    """
    if hint == ObjectiveName:
        names = typing.get_args(typing.get_args(hint)[0])
        return {"anyOf": [{"enum": list(names)}, {"type": "string", "pattern": OWN_OBJECTIVE}]}
    if hint == ObjectiveNames:
        one = _allowed(ObjectiveName)
        return {"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}]}
    members = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds: list[str] = []
    content: dict[str, Any] = {}
    for member in members:
        kind = typing.get_origin(member) or member
        if kind is list:
            content["items"] = _allowed(typing.get_args(member)[0])
        if member == Literal[False]:
            kinds.append("boolean")
        elif kind is Literal:
            choices += typing.get_args(member)
        elif inspect.isclass(kind) and issubclass(kind, Enum):
            choices += tuple(choice.value for choice in kind)
        elif kind in JSON_TYPES:  # an object that no recipe can write is left out
            kinds.append(JSON_TYPES[kind])
    if choices:
        assert {*kinds} <= {"string", "null"}, "an enumeration in JSON schema stands alone"
        return {"enum": [*choices, *([None] if "null" in kinds else [])], **content}
    return {"type": kinds if len(kinds) > 1 else kinds[0], **content}


if __name__ == "__main__":
    for kind, file in SCHEMA_FILES.items():
        write_atomically(schema_text(kind), file)
