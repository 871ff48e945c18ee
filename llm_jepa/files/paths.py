"""What a name says by itself: a path on this machine, or perhaps a Hub id."""

from pathlib import Path


def looks_like_a_path(name: str) -> bool:
    """Whether a name can be no Hub id."""
    path = Path(name)
    return path.is_absolute() or name.startswith(("~", ".")) or len(path.parts) > 2
