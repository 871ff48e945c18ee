"""A recipe: one flat YAML of TRL's settings and ours, every key overridable on the command line, strictly read.

YAML scalars are taken as text and read by the type of the key, so `1e-3` is a number where a number is wanted, `no` is
a choice of `eval_strategy`, and a run may be named `007`.
"""

import copy
import dataclasses
import difflib
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union

import yaml
from trl import ModelConfig, ScriptArguments

from llm_jepa.config import JEPAConfig
from llm_jepa.files.atomic import write_atomically

REQUIRED = ("model_name_or_path", "dataset_name", "output_dir")
PATH_OR_MAPPING = frozenset({"accelerator_config", "deepspeed", "fsdp_config"})
"""Mappings for which transformers also takes the path of a JSON file."""

IDLE = {
    "do_train": "training is what a recipe is for",
    "do_eval": "`eval_strategy` decides whether there is evaluation",
    "do_predict": "`llm-jepa eval` generates and scores predictions",
    "ignore_bias_buffers": "it is read by no trainer",
    "hub_always_push": "only the end of a run is published",
    "hub_revision": "what is published goes to the branch main",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint",
}
"""Keys that nothing reads -> what to know instead."""

TRUE_WORDS, FALSE_WORDS, NULL_WORDS = ("true", "yes", "on"), ("false", "no", "off"), ("null", "none")
YAML_SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}

Arguments = TypeVar("Arguments", ScriptArguments, ModelConfig, JEPAConfig)


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: the settings that were given, and the objects that they configure."""

    path: Path
    settings: dict[str, Any]
    """Exactly the keys given, in the recipe's order, overrides applied, each of its own type."""
    script: ScriptArguments
    model: ModelConfig
    training: JEPAConfig

    @property
    def output_dir(self) -> Path:
        return Path(self.settings["output_dir"]).expanduser()


class _Setting(NamedTuple):
    """What a key may be. `item` is the setting of a list's items, `choices` the only texts allowed (if any)."""

    kinds: tuple[Any, ...]
    choices: tuple[str, ...]
    item: "_Setting | None"


class _Entry(NamedTuple):
    """One key with its value as written: text, None, a list of texts, or a mapping; and where it was written."""

    key: str
    value: Any
    where: str


def parse_recipe(argv: list[str], required: Sequence[str] = REQUIRED) -> Recipe:
    """Read `[RECIPE.yaml, --key value, --key=value, ...]`; `required` are the keys without which nothing can be done.

    Raises:
        ValueError: The file is missing or no flat YAML mapping, a key is unknown, given twice or missing, a value is
            of the wrong type, or settings contradict each other.
    """
    if not argv or argv[0].startswith("-"):
        raise ValueError("No recipe given. Name its YAML file first, then any overrides as `--key value`.")
    path = Path(argv[0])
    return build_recipe(path, read_settings(path, argv[1:]), required)


def build_recipe(path: Path, settings: dict[str, Any], required: Sequence[str] = REQUIRED) -> Recipe:
    """Check typed settings against each other; `path` is what they are called in errors."""
    missing = [key for key in required if settings.get(key) is None]
    if missing:
        raise ValueError(f"{path}: `{'`, `'.join(missing)}` must be given, in the recipe or as `--key value`.")
    _check_idle_settings(path, settings)
    _check_model_settings(path, settings)
    try:
        script = _build(ScriptArguments, settings)
        model = _build(ModelConfig, settings)
        training = _build(JEPAConfig, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    _keep_single_lora_module(model)
    return Recipe(path, settings, script, model, training)


def read_settings(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The typed settings of a recipe with command-line overrides, no defaults filled in."""
    entries = [*_yaml_entries(path), *_command_line_entries(overrides)]
    return {entry.key: _typed(entry) for entry in entries}


def read_overrides(argv: Iterable[str]) -> dict[str, Any]:
    """The typed settings of a command line alone."""
    return {entry.key: _typed(entry) for entry in _command_line_entries(argv)}


def write_recipe(settings: dict[str, Any], path: Path) -> None:
    """Write settings as a recipe, in their order; `read_settings` gives the same ones back."""
    write_atomically(recipe_text(settings), path)


def recipe_text(settings: dict[str, Any]) -> str:
    """Settings as the text of a recipe."""
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _build(arguments: type[Arguments], settings: dict[str, Any]) -> Arguments:
    names = {field.name for field in dataclasses.fields(arguments)}
    return arguments(**{key: copy.deepcopy(value) for key, value in settings.items() if key in names})


def _check_idle_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse settings that transformers and TRL know and that nothing reads here."""
    for key, advice in IDLE.items():
        if key in settings:
            raise ValueError(f"{path}: `{key}` has no effect: {advice}. Leave it out.")
    if "dataset_text_field" in settings:
        is_pair = settings.get("jepa_objective", JEPAConfig.jepa_objective) == "pair"
        makes_views = is_pair and settings.get("jepa_weight", JEPAConfig.jepa_weight) > 0
        if makes_views or settings.get("source_column") is not None or settings.get("view_columns") is not None:
            raise ValueError(
                f"{path}: `dataset_text_field` has no effect: it names a column of plain text, which only "
                "`jepa_objective: tube` or `patch` and `jepa_weight: 0`, without named columns, train on. Leave it "
                "out."
            )


def _check_model_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse model settings that contradict each other or would have no effect."""
    if not settings.get("use_peft"):
        for key in ("load_in_4bit", "load_in_8bit"):
            if settings.get(key):
                raise ValueError(f"{path}: `{key}` trains adapters on a quantised model; it needs `use_peft: true`.")
        idle = [key for key in settings if key.startswith("lora_") or key in ("use_rslora", "use_dora")]
        if idle:
            raise ValueError(f"{path}: `{'`, `'.join(idle)}` would have no effect without `use_peft: true`.")
    elif settings.get("from_scratch"):
        raise ValueError(
            f"{path}: `from_scratch` with `use_peft` would train adapters on random weights. Leave one out."
        )
    idle = [key for key in settings if key.startswith("bnb_4bit_") or key == "use_bnb_nested_quant"]
    if idle and not settings.get("load_in_4bit"):
        raise ValueError(f"{path}: `{'`, `'.join(idle)}` would have no effect without `load_in_4bit: true`.")


def _keep_single_lora_module(model: ModelConfig) -> None:
    # TRL unwraps a list of one module (meant for `all-linear`), and PEFT then takes the text as a regular expression
    # that must match a module's full path, which a bare module name never does.
    modules = model.lora_target_modules
    if isinstance(modules, str) and re.fullmatch(r"[\w.]+", modules):
        model.lora_target_modules = [modules]


# --- what the keys are ---


@functools.cache
def _known_settings() -> dict[str, _Setting]:
    known = {}
    for arguments in (ScriptArguments, ModelConfig, JEPAConfig):
        hints = typing.get_type_hints(arguments)
        for field in dataclasses.fields(arguments):
            if field.init:
                known[field.name] = _setting(hints[field.name], field.metadata.get("choices", ()))
    return known


def _setting(hint: Any, choices: Iterable[str] = ()) -> _Setting:
    """A type hint, e.g. `str | list[str] | None`, as a setting. An Enum or Literal closes the set of texts."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds: list[Any] = []
    item = None
    choices = tuple(choices)
    for member in members:
        if typing.get_origin(member) is list:
            item = _setting(typing.get_args(member)[0])
            kinds.append(list)
        elif member == Literal[False]:
            kinds.append(bool)
        elif typing.get_origin(member) is Literal:
            choices += typing.get_args(member)
        elif inspect.isclass(member) and issubclass(member, Enum):
            choices += tuple(choice.value for choice in member)
        else:
            kinds.append(typing.get_origin(member) or member)
    return _Setting(tuple(kind for kind in kinds if not (choices and kind is str)), choices, item)


def _allowed(key: str, setting: _Setting) -> str:
    """What a key may be, in words."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    words |= {dict: "a mapping (as JSON on the command line)", types.NoneType: "null"}
    allowed = [f"one of {', '.join(setting.choices)}"] if setting.choices else []
    if str in setting.kinds and dict in setting.kinds and key in PATH_OR_MAPPING:
        allowed.append("the path of a JSON file")
    elif str in setting.kinds and dict not in setting.kinds:
        allowed.append("text")
    return " or ".join(allowed + [words[kind] for kind in setting.kinds if kind in words and kind is not str])


# --- reading values by the type of their key ---


def _typed(entry: _Entry) -> Any:
    known = _known_settings()
    if entry.key not in known:
        nearest = difflib.get_close_matches(entry.key, known, n=1, cutoff=0)[0]
        raise ValueError(f"{entry.where}: unknown key `{entry.key}`. Did you mean `{nearest}`?")
    setting = known[entry.key]
    try:
        return _read(entry.key, entry.value, setting)
    except ValueError as error:
        detail = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(
            f"{entry.where}: `{entry.key}` is {_shown(entry.value)}{detail}; "
            f"it must be {_allowed(entry.key, setting)}."
        ) from error


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _read(key: str, value: Any, setting: _Setting) -> Any:
    if isinstance(value, str):
        return _read_text(key, value, setting)
    if isinstance(value, list) and setting.item and value:
        return [_read(key, item, setting.item) for item in value]
    if isinstance(value, dict) and dict in setting.kinds:
        return value
    if value is None and types.NoneType in setting.kinds:
        return None
    raise ValueError(value)


def _read_text(key: str, text: str, setting: _Setting) -> Any:
    """`text` as the first of the setting's types that reads it; ValueError if none does."""
    kinds, word = setting.kinds, text.lower()
    if text in setting.choices:
        return text
    if types.NoneType in kinds and str not in kinds and word in NULL_WORDS:
        return None
    if bool in kinds and word in TRUE_WORDS + FALSE_WORDS:
        return word in TRUE_WORDS
    for number in (int, float):
        if number in kinds:
            try:
                return number(YAML_SPECIAL_FLOATS.get(word, text))
            except ValueError:
                continue
    if dict in kinds and text.startswith("{"):
        return json.loads(text)
    if str in kinds and (dict not in kinds or key in PATH_OR_MAPPING):
        return text
    if setting.item and str not in kinds:
        return [_read_text(key, text, setting.item)]
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
        if not values and (setting := _known_settings().get(key)) and bool not in setting.kinds:
            raise ValueError(f"command line: `--{key}` needs a value: {_allowed(key, setting)}.")
        texts = [None if value == "null" else value for value in values or ["true"]]
        yield _Entry(key, _bracketed(key, texts[0]) if len(texts) == 1 else texts, "command line")


def _bracketed(key: str, text: str | None) -> Any:
    """The texts of a YAML list in brackets, where the key takes a list; any other text as it is."""
    setting = _known_settings().get(key)
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
