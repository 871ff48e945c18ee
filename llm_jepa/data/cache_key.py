"""The version of the code that prepares rows, a part of the cache's key.

`datasets` keys its cache by the code of the mapped function, but only by the names of the functions that it calls.
Without this version it would reuse rows of older code.
"""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("trl", "transformers", "tokenizers", "jinja2")
"""What renders and tokenises a conversation."""
PACKAGE = Path(__file__).parents[1]


def preparing_sources(package: Path = PACKAGE) -> list[Path]:
    """The modules that determine the contents of prepared rows: those of this folder, and the mapping of columns."""
    return [*sorted(package.glob("data/*.py")), package / "settings" / "view_fields.py"]


def sources_digest(sources: Iterable[Path], library_versions: Mapping[str, str]) -> str:
    """A digest of files, by name and content, and of versions."""
    digest = hashlib.sha256(repr(sorted(library_versions.items())).encode())
    for path in sources:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:16]


PREPARATION_VERSION = sources_digest(preparing_sources(), {name: version(name) for name in LIBRARIES})
