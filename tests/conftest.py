"""Settings of the whole suite."""

import gc
import logging
import os
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import torch
from hypothesis import settings

from tests.devices import USE_CPU
from tests.hub.hub_server import BASE, DATA, TOKEN, running_hub
from tests.warm_python import warm_python

TESTS = Path(__file__).parent
LONGEST = (
    "training/test_launch_files.py",
    "planning/test_plan.py",
    "experiments/test_experiment.py",
    "benchmarks/test_gpu_run.py",
    "training/test_interruption.py",
    "test_readme.py",
    "test_recipes.py",
    "layouts/test_equivalence.py",
    "planning/test_dry_step.py",
    "training/test_distributed.py",
    "objectives/test_every_objective.py",
    "benchmarks/test_step_cost.py",
    "test_trainer.py",
    "vision/test_launch.py",
    "evaluation/test_eval_harnesses.py",
    "cli/test_cli.py",
    "hub/test_training.py",
    "training/test_quantised.py",
    "training/test_devices.py",
    "preparers/test_memory.py",
)
"""Files that take longest, in their order. Processes that begin with them end at about the same time."""

# trackio reads it when it is first imported, by whichever test that is.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")

# transformers reads it then too; code that comes with models is one package, imported once from one place.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules")

# cuBLAS reads it when a GPU is first used: products that give the same bits twice.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline is a timed assertion, which a busy machine fails.
settings.register_profile("llm_jepa", deadline=None)
settings.load_profile("llm_jepa")


@pytest.fixture(autouse=True)
def own_log_level():
    """No test reads the log as an earlier one left it: programs set its level, and a tracker disables loggers."""
    logging.disable(logging.NOTSET)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.partition(".")[0] == "llm_jepa" and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)
            logger.disabled, logger.propagate = False, True


gc.disable()  # until the tests are collected: imports make no garbage, and a collection goes through all modules


def pytest_collection_finish():
    """Collect garbage again, of what the tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Put the longest files first; `make test` hands out files in this order."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places)
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def python():
    """A Python for programs that the tests start, which has done its imports."""
    with warm_python() as path:
        yield path


@pytest.fixture
def deterministic():
    """On a GPU, kernels that give the same bits twice."""
    torch.use_deterministic_algorithms(not USE_CPU, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that knows a base model and a data set; this process's client talks to it, and tries again at once."""
    with running_hub() as server:
        server.add(BASE, {"config.json": b"{}"})
        server.add(DATA, {}, kind="datasets")
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.endpoint)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
