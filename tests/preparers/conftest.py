"""Data sets that several modules look at, each prepared once."""

import functools

import pytest

from tests.preparers.prepared_sets import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Name of a set -> where it was prepared, once, and what was said."""
    return functools.cache(lambda name: prepare(name, tmp_path_factory.mktemp(name)))
