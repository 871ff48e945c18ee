"""The record of a run in its output directory: recipe, trainer's state, environment, scores.

A merged model has a copy in its folder `run`.
"""

import dataclasses
import importlib.metadata
import json
import logging
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_jepa.files.atomic import write_atomically, write_json
from llm_jepa.settings.reading import read_settings, recipe_text
from llm_jepa.settings.vision_checks import PARTS

if TYPE_CHECKING:
    from transformers import TrainerState

RECIPE_FILE = "recipe.yaml"
"""The settings of the run, overrides included."""
STATE_FILE = "trainer_state.json"
"""The trainer's state, written last: a directory that has it holds a complete run or checkpoint."""
ENVIRONMENT_FILE = "environment.json"
"""Versions, device, number of processes and local files of the training, and the form of its prompts."""
FILES_KEY = "files"
"""Key of the local files there: name -> size and digest of each."""
SCORES_FILE = "scores-{checkpoint}.json"
"""What `llm-jepa eval` measured of a checkpoint, base or tuned."""
PROMPTS_FILE = "prompts.json"
"""The form of its prompts, of a published run, which has no environment."""
PLAIN_PROMPTS_KEY = "has_plain_prompts"
"""Key of the form there and in the environment: whether the rows are plain strings."""
RUN_FOLDER = "run"
"""Folder of a merged model that holds the record of its run."""

SECRET_KEYS = frozenset({"hub_token"})

KEYS_WITHOUT_EFFECT_ON_RESULT = SECRET_KEYS | {
    "output_dir",
    "resume_from_checkpoint",
    "save_steps",
    "save_total_limit",
    "dataloader_num_workers",
    "disable_tqdm",
    "logging_strategy",
    "logging_steps",
    "logging_first_step",
    "logging_nan_inf_filter",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "report_to",
    "run_name",
    "project",
    "trackio_space_id",
    "trackio_bucket_id",
    "trackio_static_space_id",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
}
"""A run may be resumed with other values of these."""

SCORING_KEYS = frozenset({"task", "extract", "database_path", "choices_column"})
"""Settings that only evaluation reads."""

PATH_OR_HUB_ID_KEYS = ("model_name_or_path", "dataset_name", "chat_template_path", *PARTS)
"""Settings whose value is a Hub id or a local path."""

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("llm-jepa", "torch", "transformers", "trl", "peft")
SCORES_FILES = {checkpoint: SCORES_FILE.format(checkpoint=checkpoint) for checkpoint in ("base", "tuned")}


@dataclass(frozen=True)
class RunRecord:
    """The record of a run. What is missing is empty; `scores` is checkpoint -> content of its scores file."""

    settings: dict[str, Any]
    state: "TrainerState | None"
    environment: dict[str, Any]
    scores: dict[str, dict[str, Any]]


def read_run(directory: Path) -> RunRecord:
    """Read the record in an output directory or a merged model.

    Raises:
        ValueError: A file of it cannot be read.
    """
    settings, directory = settings_of_run(directory), record_folder(directory)
    return RunRecord(
        settings=settings,
        state=_read_state(directory / STATE_FILE),
        environment=read_json(directory / ENVIRONMENT_FILE),
        scores={checkpoint: read_json(path) for checkpoint, path in _scores_files(directory).items()},
    )


def settings_of_run(directory: Path) -> dict[str, Any]:
    """The recorded settings of a run, or of the run that was merged into a model; empty if there are none."""
    path = record_folder(directory) / RECIPE_FILE
    return read_settings(path) if path.is_file() else {}


def record_folder(directory: Path) -> Path:
    """Where a run's directory or a merged model has the record."""
    has_folder = (directory / RUN_FOLDER / RECIPE_FILE).is_file()
    return directory / RUN_FOLDER if has_folder else directory


def has_plain_prompts(directory: Path) -> bool | None:
    """Whether a run was trained on plain strings, which no chat template rendered; None if its record does not say.

    Raises:
        ValueError: The record cannot be read.
    """
    folder = record_folder(directory)
    return (read_json(folder / PROMPTS_FILE) | read_json(folder / ENVIRONMENT_FILE)).get(PLAIN_PROMPTS_KEY)


def copy_run(directory: Path, merged: Path) -> None:
    """Copy the record of a run, if there is one, into the merged model."""
    if not (directory / RECIPE_FILE).is_file():
        return
    (merged / RUN_FOLDER).mkdir()
    paths = (directory / name for name in (RECIPE_FILE, STATE_FILE, ENVIRONMENT_FILE, PROMPTS_FILE))
    for path in (*paths, *_scores_files(directory).values()):
        if path.is_file():
            shutil.copyfile(path, merged / RUN_FOLDER / path.name)


def record_start(
    directory: Path,
    settings: Mapping[str, Any],
    device: str,
    num_processes: int,
    base_origin: str | None,
    files: Mapping[str, Any],
    has_plain_prompts: bool = False,
) -> None:
    """Record the recipe and the environment of a run that begins, and mark it as not complete.

    Args:
        device: Name of the device that the run trains on.
        base_origin: Where the base's weights come from, if known.
        files: The local files that it trains on (`llm_jepa.data.file_record`).
        has_plain_prompts: Whether the rows are plain strings, which no chat template renders.
    """
    public = {key: value for key, value in settings.items() if key not in SECRET_KEYS}
    write_atomically(recipe_text(public), directory / RECIPE_FILE)
    write_environment(directory, settings, device, num_processes, base_origin, files, has_plain_prompts)
    (directory / STATE_FILE).unlink(missing_ok=True)


def write_environment(
    directory: Path,
    settings: Mapping[str, Any],
    device: str,
    num_processes: int,
    base_origin: str | None,
    files: Mapping[str, Any],
    has_plain_prompts: bool,
) -> None:
    """Write versions, device, number of processes, the origin of the base's weights, if known, the local files and the
    form of the prompts.

    `local` lists the settings that name a local path: on another machine a relative path could pass for a Hub id.
    """
    content = {
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "commit": toolkit_commit(),
        "device": device,
        "num_processes": num_processes,
        "base_origin": base_origin,
        PLAIN_PROMPTS_KEY: has_plain_prompts,
        "local": [
            key for key in PATH_OR_HUB_ID_KEYS if settings.get(key) and Path(settings[key]).expanduser().exists()
        ],
        FILES_KEY: files,
    }
    write_json(content, directory / ENVIRONMENT_FILE)


def toolkit_commit() -> str | None:
    """The git commit of the package, with `+` if there are uncommitted changes; None outside a git checkout."""
    if not (PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(PACKAGE)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=False)
    if commit.returncode or changed.returncode:
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _scores_files(directory: Path) -> dict[str, Path]:
    """Checkpoint -> its scores file, unless the file is older than the weights in the directory."""
    weights = max((path.stat().st_mtime_ns for path in directory.glob("*.safetensors")), default=0)
    found = {}
    for checkpoint, name in SCORES_FILES.items():
        path = directory / name
        if path.is_file() and (checkpoint == "base" or path.stat().st_mtime_ns >= weights):
            found[checkpoint] = path
        elif path.is_file():
            logger.warning("%s is older than the weights and is left out. Evaluate again.", path)
    return found


def _read_state(path: Path) -> "TrainerState | None":
    from transformers import TrainerState  # imports torch, which takes seconds

    known = {field.name for field in dataclasses.fields(TrainerState)}  # another version's file may have more
    content = {name: value for name, value in read_json(path).items() if name in known}
    return TrainerState(**content) if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if the file is missing.

    Raises:
        ValueError: The file is incomplete, or holds no mapping.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # incomplete JSON, or an incomplete character
        raise ValueError(
            f"`{path}` cannot be read ({error}). Restore it, or remove it if it is not needed."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` holds {type(content).__name__}, no mapping. Restore it, or remove it.")
    return content
