"""The record of the local files that a run trains on, by which a later start knows that they changed.

No modification times: copies and checkouts change them. Imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_jepa.data.local_splits import files_by_split, names_in_split, source_of
from llm_jepa.files.pieces import content_digest, pieces_per_file
from llm_jepa.runs.record import ENVIRONMENT_FILE, FILES_KEY, read_json
from llm_jepa.settings.objectives import objective_names, own_objective_file, short_name
from llm_jepa.settings.schema import recipe_kind

PICTURES = "pictures"
"""The name of the record of picture files; no data file has one without a suffix."""


def record_files(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> size and digest of each local file that training reads: of its splits, and those that settings name.

    These are `excluded_rows`, `chat_template_path` if it is a file, and the files of a user's own objectives.

    Of VL-JEPA also `pictures`, a record of all picture files by their names and sizes; see `record_pictures`. Empty
    for data on the Hub. The digest is the SHA-256 of the whole content up to 64 MiB; of a larger file, of 64
    pieces of 1 MiB, spread evenly, so that a change between them that keeps the size is not seen. Of more than 64
    files each has fewer pieces, 4,096 together, one at least.
    """
    files = _files(settings)
    num_pieces = pieces_per_file(len(files))
    recorded = {name: _state(path, num_pieces) for name, path in files.items()}
    pictures = _pictures(settings)
    return recorded if pictures is None else recorded | {PICTURES: pictures}


def check_same_files(run: Path, settings: Mapping[str, Any], is_complete: bool, remedy: str) -> None:
    """Accept the files if they are as a run's record says, or if it has none, as that of an earlier version.

    Args:
        run: The run's output directory.
        is_complete: Whether nothing will be trained, so that files may be missing.
        remedy: What the message says to do, beside restoring the file.

    Raises:
        ValueError: A file has other content, is new or is missing; or picture files have other names or sizes. A
            file of a setting that is not in the record passes: earlier versions recorded fewer.
    """
    recorded = read_json(run / ENVIRONMENT_FILE).get(FILES_KEY)
    if recorded is None:
        return
    files = _files(settings)
    unrecorded = _files_of_settings(settings).keys() - recorded
    for name in {**recorded, **files}:
        path = files.get(name)
        if name == PICTURES or name in unrecorded or (path is None and is_complete):
            continue
        if path is None:
            found = f"`{name}` is missing, and part of what"
        elif name not in recorded:
            found = f"`{path}` is new, and no part of what"
        elif _state(path, recorded[name]["pieces"]) != recorded[name]:
            found = f"`{path}` has other content than"
        else:
            continue
        raise ValueError(f"{found} the run in `{run}` was trained on. {remedy}, or restore the file.")
    if PICTURES in recorded:
        _check_same_pictures(recorded[PICTURES], run, settings, is_complete, remedy)


def _check_same_pictures(
    recorded: Mapping[str, Any], run: Path, settings: Mapping[str, Any], is_complete: bool, remedy: str
) -> None:
    try:
        pictures = _pictures(settings)
    except ValueError:  # rows that cannot be loaded are refused where they are read
        return
    if pictures == recorded or (is_complete and (pictures or {}).get("missing", 1)):
        return
    raise ValueError(
        f"The pictures of `{settings['dataset_name']}` have other names or sizes than those the run in `{run}` was "
        f"trained on. {remedy}, or restore the pictures."
    )


def _pictures(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the picture files; None for rows of text, and where training reads the questions alone."""
    if recipe_kind(settings) != "vision" or settings.get("inputs") == "question":
        return None
    from llm_jepa.data.picture_files import record_pictures  # `datasets` takes a second

    return record_pictures(source_of(settings), _splits(settings), settings.get("image_column", "image"))


def _splits(settings: Mapping[str, Any]) -> list[str]:
    """The splits that training reads."""
    source = source_of(settings)
    evaluates = settings.get("eval_strategy", "no") != "no"
    return [source.dataset_train_split, *([source.dataset_test_split] if evaluates else [])]


def _files(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Name -> each local file that training reads and that is there."""
    source = source_of(settings)
    names = [name for split in _splits(settings) for name in names_in_split(split)]
    root = Path(source.dataset_name or "").expanduser()
    by_split = files_by_split(source)
    paths = [path for name in dict.fromkeys(names) for path in by_split.get(name, [])]
    files = {path.name if path == root else str(path.relative_to(root)): path for path in paths}
    files |= _files_of_settings(settings)
    return {name: path for name, path in files.items() if path.is_file()}


def _files_of_settings(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Name -> each file beside the data that the settings name. `chat_template_path` may be no file but a model."""
    keys = ("excluded_rows", "chat_template_path")
    files = {key: Path(settings[key]) for key in keys if settings.get(key) is not None}
    for objective in objective_names(settings.get("jepa_objective", "pair")):
        own = own_objective_file(objective)
        if own is not None:
            files[f"jepa_objective {short_name(objective)}"] = own
    return files


def _state(path: Path, num_pieces: int) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "pieces": num_pieces, "sha256": content_digest(path, num_pieces)}
