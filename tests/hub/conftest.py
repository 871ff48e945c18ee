"""A run to publish, made once."""

import shutil
from pathlib import Path

import pytest

from tests.hub.hub_run import make_run


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("mira-machine"))


@pytest.fixture
def run(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))
