"""A recipe: one flat YAML of TRL's settings and ours, every key overridable on the command line, strictly read."""

import copy
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import transformers
import trl
from trl import ModelConfig, ScriptArguments

from llm_jepa.config import JEPAConfig
from llm_jepa.settings.checks import REQUIRED, check_recipe, check_settings
from llm_jepa.settings.reading import recipe_and_overrides
from llm_jepa.settings.schema import recipe_kind

VISION_COMMANDS = "`llm-jepa train`, `inspect`, `plan`, `eval`, `train-decoder`, `answer`, `latency` and `push`"
CONFIGURATIONS = (ScriptArguments, ModelConfig, JEPAConfig)
"""What a recipe configures; no two of them share a key."""

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

    @property
    def source(self) -> ScriptArguments:
        """The data that the recipe names."""
        return self.script

    @property
    def base(self) -> tuple[str, str | None]:
        """The name of the model that is trained, and its revision."""
        return self.settings["model_name_or_path"], self.model.model_revision


def parse_recipe(argv: list[str], required: Sequence[str] = REQUIRED) -> Recipe:
    """Read `[RECIPE.yaml, --key value, --key=value, ...]`; `required` are the keys without which nothing can be done.

    Raises:
        ValueError: The file is missing or no flat YAML mapping, a key is unknown, given twice or missing, a value is
            of the wrong type, or settings contradict each other.
    """
    path, overrides = recipe_and_overrides(argv)
    return _build_checked(path, check_recipe(path, overrides, required))


def build_recipe(path: Path, settings: dict[str, Any], required: Sequence[str] = REQUIRED) -> Recipe:
    """Check typed settings against each other; `path` is what they are called in errors."""
    check_settings(path, settings, required)
    return _build_checked(path, settings)


def _build_checked(path: Path, settings: dict[str, Any]) -> Recipe:
    if recipe_kind(settings) == "vision":
        raise ValueError(f"{path}: a recipe of VL-JEPA, which has `vision_encoder`, is for {VISION_COMMANDS}.")
    _refuse_keys_of_other_versions(path, settings)
    try:
        script = _build(ScriptArguments, settings)
        model = _build(ModelConfig, settings)
        training = _build(JEPAConfig, settings)
    except (ValueError, TypeError, ImportError) as error:  # what TRL and transformers refuse
        raise ValueError(f"{path}: {error}") from error
    _keep_single_lora_module(model)
    return Recipe(path, settings, script, model, training)


def _refuse_keys_of_other_versions(path: Path, settings: dict[str, Any]) -> None:
    known = {field.name for arguments in CONFIGURATIONS for field in dataclasses.fields(arguments)}
    for key in settings.keys() - known:
        raise ValueError(
            f"{path}: `{key}` is unknown to the installed transformers {transformers.__version__} and TRL "
            f"{trl.__version__}. Leave it out, or install the versions of constraints.txt."
        )


def _build(arguments: type[Arguments], settings: dict[str, Any]) -> Arguments:
    names = {field.name for field in dataclasses.fields(arguments)}
    return arguments(**{key: copy.deepcopy(value) for key, value in settings.items() if key in names})


def _keep_single_lora_module(model: ModelConfig) -> None:
    # TRL unwraps a list of one module (meant for `all-linear`), and PEFT then takes the text as a regular expression
    # that must match a module's full path, which a bare module name never does.
    modules = model.lora_target_modules
    if isinstance(modules, str) and re.fullmatch(r"[\w.]+", modules):
        model.lora_target_modules = [modules]
