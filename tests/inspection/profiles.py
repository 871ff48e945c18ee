"""Data files of a test, and their profiles."""

import json
from pathlib import Path

from trl import ScriptArguments

from llm_jepa.inspection.data_profile import DataProfile, profile_data


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def profile(path: Path, **options) -> DataProfile:
    return profile_data(ScriptArguments(dataset_name=str(path)), **options)
