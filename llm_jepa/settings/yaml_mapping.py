"""Reads and writes mappings in YAML, strictly: every key once, and every error with its line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Entry(NamedTuple):
    """One key with its value as written: text, None, a list of texts, or a mapping; and where it was written."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True)
class YamlMapping:
    """A mapping of a YAML file, whose scalars are read as text: their types depend on the key."""

    path: Path
    loader: "_Loader"
    node: yaml.MappingNode

    def entries(self) -> Iterator[Entry]:
        """Every key with its value as written."""
        for key_node, value_node in self.node.value:
            with _yaml_errors_explained(self.path):
                value = _written_value(self.loader, value_node)
            yield Entry(key_node.value, value, self._where(key_node))

    def section(self, key: str) -> "YamlMapping | None":
        """The mapping below a key; None if the key is absent or null.

        Raises:
            ValueError: The value is no mapping.
        """
        for key_node, value_node in self.node.value:
            if key_node.value == key:
                if isinstance(value_node, yaml.MappingNode):
                    return YamlMapping(self.path, self.loader, value_node)
                value = _written_value(self.loader, value_node)
                if value is not None:
                    raise ValueError(
                        f"{self._where(key_node)}: `{key}` is {value!r}; it must be a mapping of `key: value` lines."
                    )
        return None

    def keys(self) -> list[str]:
        """The keys, in their order."""
        return [key_node.value for key_node, _ in self.node.value]

    def _where(self, key_node: yaml.Node) -> str:
        return f"{self.path}, line {key_node.start_mark.line + 1}"


def read_yaml_mapping(path: Path, kind: str) -> YamlMapping:
    """Read a YAML file whose root is a mapping; `kind` is what errors call it, e.g. "recipe".

    Raises:
        ValueError: The file is missing, not UTF-8, no YAML or no mapping, or a key is given twice.
    """
    if not path.is_file():
        raise ValueError(f"There is no {kind} `{path}` (looked in {Path.cwd()}).")
    with _yaml_errors_explained(path):
        loader = _Loader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    if not isinstance(root, yaml.MappingNode):
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(f"{path}: {article} {kind} is a YAML mapping of `key: value` lines; this is none.")
    _refuse_duplicates(root, path)
    return YamlMapping(path, loader, root)


@contextmanager
def _yaml_errors_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error)
        advice = " A tab cannot indent YAML; write spaces." if "'\\t'" in problem else ""
        raise ValueError(f"{path}{line}: invalid YAML: {problem}.{advice}") from error


def read_yaml_list(text: str) -> Any:
    """The texts of a YAML list in brackets; any text that is no YAML as it is."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError:  # `[qv]_proj` is a text
        return text
    assert node is not None, "a bracket opens a sequence"
    return _written_value(loader, node)


def yaml_text(content: dict[str, Any]) -> str:
    """A mapping as YAML, in its order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


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
