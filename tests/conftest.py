"""Settings of the whole suite."""

import os
import tempfile
from types import SimpleNamespace

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import torch
from hypothesis import settings

from tests.devices import USE_CPU
from tests.hub.hub_server import BASE, DATA, TOKEN, running_hub

# trackio reads it when it is first imported, by whichever test that is.
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")

# transformers reads it then too; code that comes with models is one package, imported once from one place.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules")

# cuBLAS reads it when a GPU is first used: products that give the same bits twice.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# A deadline is a timed assertion, which a busy machine fails.
settings.register_profile("llm_jepa", deadline=None)
settings.load_profile("llm_jepa")


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
