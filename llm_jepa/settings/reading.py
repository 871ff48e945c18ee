"""Reads a recipe's YAML and command line into typed settings, and writes them.

YAML scalars are taken as text and read by the type of the key, so `1e-3` is a number where a number is wanted, `no` is
a choice of `eval_strategy`, and a run may be named `007`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from llm_jepa.settings.schema import Setting, known_settings

RECIPE_SUFFIXES = (".yaml", ".yml")
IDLE = {
    "do_train": "training is what a recipe is for",
    "do_eval": "`eval_strategy` decides whether there is evaluation",
    "do_predict": "`llm-jepa eval` generates and scores predictions",
    "ignore_bias_buffers": "it is read by no trainer",
    "hub_always_push": "only the end of a run is published",
    "hub_revision": "what is published goes to the branch main",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint",
}
"""Keys of TRL and transformers that nothing reads, and that the schema leaves out -> what to know instead."""

TRUE_WORDS, FALSE_WORDS, NULL_WORDS = ("true", "yes", "on"), ("false", "no", "off"), ("null", "none")
YAML_SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


class _Entry(NamedTuple):
    """One key with its value as written: text, None, a list of texts, or a mapping; and where it was written."""

    key: str
    value: Any
    where: str


def read_settings(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The typed settings of a recipe with command-line overrides, no defaults filled in.

    Raises:
        ValueError: The file is missing or no flat YAML mapping, a key is unknown, without effect or given twice, or a
            value is of the wrong type.
    """
    entries = [*_yaml_entries(path), *_command_line_entries(overrides)]
    return {entry.key: _typed(entry) for entry in entries}


def read_overrides(argv: Iterable[str]) -> dict[str, Any]:
    """The typed settings of a command line alone."""
    return {entry.key: _typed(entry) for entry in _command_line_entries(argv)}


def recipe_text(settings: dict[str, Any]) -> str:
    """Settings as the text of a recipe, in their order; `read_settings` gives the same ones back."""
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


# --- reading values by the type of their key ---


def _typed(entry: _Entry) -> Any:
    known = known_settings()
    if entry.key in IDLE:
        raise ValueError(f"{entry.where}: `{entry.key}` has no effect: {IDLE[entry.key]}. Leave it out.")
    if entry.key not in known:
        nearest = difflib.get_close_matches(entry.key, known, n=1, cutoff=0)[0]
        raise ValueError(f"{entry.where}: unknown key `{entry.key}`. Did you mean `{nearest}`?")
    setting = known[entry.key]
    try:
        return _read(entry.value, setting)
    except ValueError as error:
        detail = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        shown = "null" if entry.value is None else repr(entry.value)
        raise ValueError(
            f"{entry.where}: `{entry.key}` is {shown}{detail}; it must be {setting.in_words()}."
        ) from error


def _read(value: Any, setting: Setting) -> Any:
    if isinstance(value, str):
        return _read_text(value, setting)
    if isinstance(value, list) and setting.item and value:
        return [_read(item, setting.item) for item in value]
    if isinstance(value, dict) and "object" in setting.types:
        return value
    if value is None and "null" in setting.types:
        return None
    raise ValueError(value)


def _read_text(text: str, setting: Setting) -> Any:
    """`text` as the first of the setting's types that reads it; ValueError if none does."""
    types, word = setting.types, text.lower()
    if text in setting.choices:
        return text
    if "null" in types and "string" not in types and word in NULL_WORDS:
        return None
    if "boolean" in types and word in TRUE_WORDS + FALSE_WORDS:
        return word in TRUE_WORDS
    for kind, number in (("integer", int), ("number", float)):
        if kind in types:
            try:
                return number(YAML_SPECIAL_FLOATS.get(word, text))
            except ValueError:
                continue
    if "object" in types and text.startswith("{"):
        return json.loads(text)
    if "string" in types:
        return text
    if setting.item:
        return [_read_text(text, setting.item)]
    raise ValueError(text)


# --- the two places where entries are written ---


def _command_line_entries(argv: Iterable[str]) -> Iterator[_Entry]:
    """`--key value`, `--key=value`, `--key` alone (true); a list as `--key one two` or `--key "[one, two]"`."""
    given: list[tuple[str, list[str]]] = []
    for token in argv:
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            given.append((key.replace("-", "_"), [value] if equals else []))
        elif given:
            given[-1][1].append(token)
        else:
            raise ValueError(f"command line: {token!r} belongs to no key. Overrides are written `--key value`.")
    for key, values in given:
        if not values and (setting := known_settings().get(key)) and "boolean" not in setting.types:
            raise ValueError(f"command line: `--{key}` needs a value: {setting.in_words()}.")
        texts = [None if value == "null" else value for value in values or ["true"]]
        yield _Entry(key, _bracketed(key, texts[0]) if len(texts) == 1 else texts, "command line")


def _bracketed(key: str, text: str | None) -> Any:
    """The texts of a YAML list in brackets, where the key takes a list; any other text as it is."""
    setting = known_settings().get(key)
    if text is None or setting is None or setting.item is None or not text.lstrip().startswith("["):
        return text
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError:  # `[qv]_proj` is a text
        return text
    assert node is not None, "a bracket opens a sequence"
    return _written_value(loader, node)


def _yaml_entries(path: Path) -> Iterator[_Entry]:
    if not path.is_file():
        raise ValueError(f"There is no recipe `{path}` (looked in {Path.cwd()}).")
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ValueError(f"{path}: a recipe is a YAML mapping of `key: value` lines; this is none.")
        _refuse_duplicates(root, path)
        for key_node, value_node in root.value:
            where = f"{path}, line {key_node.start_mark.line + 1}"
            yield _Entry(key_node.value, _written_value(loader, value_node), where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: invalid YAML: {getattr(error, 'problem', None) or error}.") from error


def _written_value(loader: "_Loader", node: yaml.Node) -> Any:
    """A node as text, None, a list of those, or (where the types inside are YAML's own) a mapping."""
    if isinstance(node, yaml.SequenceNode):
        return [_written_value(loader, item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return loader.construct_document(node)
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _refuse_duplicates(node: yaml.Node, path: Path) -> None:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, path)
    elif isinstance(node, yaml.MappingNode):
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ValueError(f"{path}, line {line}: a key must be a plain word.")
            key = key_node.value
            if key in first_line:
                raise ValueError(f"{path}, line {line}: `{key}` was given before, on line {first_line[key]}.")
            first_line[key] = line
            _refuse_duplicates(value_node, path)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, except that `1e-3` inside a mapping is a number too."""


class _Dumper(yaml.SafeDumper):
    """The writer that goes with it: it quotes the text '1e-3'."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )
