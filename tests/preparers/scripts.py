"""Scripts outside the package, as modules; what a call takes."""

import importlib.util
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def load_script(path: Path) -> ModuleType:
    """Execute a script's file as a module of its name."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def traced_peak_bytes(call: Callable[[], object]) -> int:
    """The most that Python's objects take during a call, beyond what they took before."""
    tracemalloc.start()
    call()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak_bytes
