"""Reads a recipe's YAML and command line into typed settings, and writes them.

YAML scalars are taken as text and read by the type of the key, so `1e-3` is a number where a number is wanted, `no` is
a choice of `eval_strategy`, and a run may be named `007`.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_jepa.settings.schema import Kind, Setting, known_settings, recipe_kind
from llm_jepa.settings.secrets import refuse_secrets
from llm_jepa.settings.yaml_mapping import Entry, read_yaml_list, read_yaml_mapping, yaml_text

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
NO_METRICS = "it serves functions of metrics, which a recipe cannot name"
WHILE_TRAINING = "a recipe evaluates while it trains, in the precision of the training"
IDLE_OF_TEXT = {
    "packing_strategy": "`packing` is refused",
    "length_column_name": "rows have no column of lengths",
    "bf16_full_eval": WHILE_TRAINING,
    "fp16_full_eval": WHILE_TRAINING,
    "prediction_loss_only": NO_METRICS,
    "batch_eval_metrics": NO_METRICS,
    "include_for_metrics": NO_METRICS,
    "eval_do_concat_batches": NO_METRICS,
}
"""The same of a recipe of text."""

TRUE_WORDS, FALSE_WORDS, NULL_WORDS = ("true", "yes", "on"), ("false", "no", "off"), ("null", "none")
LISTED_KEYS = 20
"""As many allowed keys are listed in an error."""
COMMAND_LINE = "command line"
TOKEN_KEY = "hub_token"
"""The one secret that is taken, on the command line alone. It is never stored."""
YAML_SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


def idle_keys(kind: Kind) -> Mapping[str, str]:
    """The keys that nothing reads in a recipe of a kind -> what to know instead."""
    return IDLE | IDLE_OF_TEXT if kind == "text" else IDLE


def recipe_and_overrides(argv: Sequence[str]) -> tuple[Path, list[str]]:
    """The two parts of a command line `[RECIPE.yaml, --key value, --key=value, ...]`.

    Raises:
        ValueError: It does not begin with a recipe.
    """
    if not argv or argv[0].startswith("-"):
        raise ValueError("No recipe given. Name its YAML file first, then any overrides as `--key value`.")
    return Path(argv[0]), [*argv[1:]]


def read_settings(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The typed settings of a recipe with command-line overrides, no defaults filled in.

    Raises:
        ValueError: The file is missing or no flat YAML mapping, a key is unknown, without effect or given twice, a
            value is of the wrong type, or one holds a secret.
    """
    recipe = read_yaml_mapping(path, "recipe")
    if {"recipe", "arms"} <= {*recipe.keys()}:
        raise ValueError(f"{path} is an experiment, no recipe. Run it by `llm-jepa compare {path}`.")
    overrides = [*overrides]
    kind = recipe_kind([*recipe.keys(), *(key for key, _ in _given(overrides))])
    return typed_settings([*recipe.entries(), *_command_line_entries(overrides, kind)], kind)


def typed_settings(entries: Iterable[Entry], kind: Kind = "text") -> dict[str, Any]:
    """Keys of a recipe of a kind, as written -> typed settings.

    Raises:
        ValueError: A key is unknown or without effect, or a value is of the wrong type or holds a secret.
    """
    return {entry.key: _typed_setting(entry, kind) for entry in entries}


def read_overrides(argv: Iterable[str]) -> dict[str, Any]:
    """The typed settings of a command line alone."""
    return typed_settings(_command_line_entries(argv))


def recipe_text(settings: dict[str, Any]) -> str:
    """Settings as the text of a recipe, in their order; `read_settings` gives the same ones back."""
    return yaml_text(settings)


# --- reading values by the type of their key ---


def typed(entry: Entry, known: Mapping[str, Setting]) -> Any:
    """The value of an entry, read as its key allows.

    Raises:
        ValueError: The key is unknown, or the value is of the wrong type or holds a secret.
    """
    if entry.key not in known:
        nearest = difflib.get_close_matches(entry.key, known, n=1, cutoff=0)[0]
        listed = f" Allowed are {', '.join(known)}." if len(known) <= LISTED_KEYS else ""
        raise ValueError(f"{entry.where}: unknown key `{entry.key}`. Did you mean `{nearest}`?{listed}")
    setting = known[entry.key]
    try:
        value = _read(entry.value, setting)
    except ValueError as error:
        detail = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{entry.where}: {setting.mistake(entry.key, entry.value, detail)}") from error
    if (entry.key, entry.where) != (TOKEN_KEY, COMMAND_LINE):
        refuse_secrets({entry.key: value}, entry.where)
    return value


def _typed_setting(entry: Entry, kind: Kind) -> Any:
    idle = idle_keys(kind)
    if entry.key in idle:
        raise ValueError(f"{entry.where}: `{entry.key}` has no effect: {idle[entry.key]}. Leave it out.")
    return typed(entry, known_settings(kind))


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


# --- the command line ---


def _command_line_entries(argv: Iterable[str], kind: Kind = "text") -> Iterator[Entry]:
    """`--key value`, `--key=value`, `--key` alone (true); a list as `--key one two` or `--key "[one, two]"`."""
    known = known_settings(kind)
    for key, values in _given(argv):
        if not values and (setting := known.get(key)) and "boolean" not in setting.types:
            raise ValueError(f"{COMMAND_LINE}: `--{key}` needs a value: {setting.in_words()}.")
        texts = [None if value == "null" else value for value in values or ["true"]]
        yield Entry(key, _bracketed(known.get(key), texts[0]) if len(texts) == 1 else texts, COMMAND_LINE)


def _given(argv: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Key -> the words after it, in their order."""
    given: list[tuple[str, list[str]]] = []
    for token in argv:
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            given.append((key.replace("-", "_"), [value] if equals else []))
        elif given:
            given[-1][1].append(token)
        else:
            raise ValueError(f"{COMMAND_LINE}: {token!r} belongs to no key. Overrides are written `--key value`.")
    return given


def _bracketed(setting: Setting | None, text: str | None) -> Any:
    """The texts of a YAML list in brackets, where the key takes a list; any other text as it is."""
    if text is None or setting is None or setting.item is None or not text.lstrip().startswith("["):
        return text
    return read_yaml_list(text)
