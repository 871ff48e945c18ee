"""One output directory, which is there whole or not at all, and is never written over."""

import filecmp
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

SHOWN_FILES = 5


@contextmanager
def staged_directory(output_dir: Path, may_write: Sequence[str] = ("*",)) -> Iterator[Path]:
    """A directory to write into, which becomes `output_dir` when the body ends without an error.

    If `output_dir` is there already, it must hold nothing but files that are written again, with the same contents.

    Args:
        output_dir: A directory, there or not. One that is there is staged inside, so that its parent is not written.
        may_write: Patterns of the files that the body may write, as seen from `output_dir`; `*` matches `/` too.

    Raises:
        ValueError: It is a file, cannot be made or written, or holds a file of another name (all this before the body
            runs), or a file with other contents. Nothing is changed then.
    """
    output_dir = output_dir.resolve()  # the parent of `.` would be `.`
    staging = _begin(output_dir, may_write)
    try:
        yield staging
        _install(staging, output_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _begin(output_dir: Path, may_write: Sequence[str]) -> Path:
    verb = "made"
    try:
        if output_dir.exists():
            verb = "written"
            if not output_dir.is_dir():
                raise ValueError(f"output_dir {output_dir} is a file; name a directory")
            names = [name for name in _names(output_dir) if not any(fnmatchcase(name, one) for one in may_write)]
            _refuse(names, output_dir, "what this run would not write", "name an empty directory")
        place = output_dir if output_dir.exists() else output_dir.parent
        place.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=place, prefix=_prefix(output_dir)))
    except OSError as error:
        raise ValueError(
            f"output_dir {output_dir} cannot be {verb}: {error.strerror}: {error.filename}; name another directory"
        ) from error


def _prefix(output_dir: Path) -> str:
    return f".{output_dir.name}-partial-"


def _names(output_dir: Path) -> list[str]:
    """The files of a directory, but for those of runs under way."""
    paths = [path.relative_to(output_dir) for path in sorted(output_dir.rglob("*")) if not path.is_dir()]
    return [path.as_posix() for path in paths if not path.parts[0].startswith(_prefix(output_dir))]


def _refuse(names: Sequence[str], output_dir: Path, what: str, remedy: str) -> None:
    if names:
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        shown = ", ".join(names[:SHOWN_FILES]) + more
        raise ValueError(f"output_dir {output_dir} holds {what}: {shown}. Nothing was changed; {remedy}")


def _install(staging: Path, output_dir: Path) -> None:
    staging.chmod(0o755)  # mkdtemp's are its owner's alone
    if not output_dir.exists():
        staging.replace(output_dir)
        return
    other = [name for name in _names(output_dir) if not _is_same(output_dir / name, staging / name)]
    remedy = "name an empty directory, or give the arguments and the inputs that made these files"
    _refuse(other, output_dir, "other contents than this run wrote", remedy)
    for path in sorted(staging.rglob("*")):
        target = output_dir / path.relative_to(staging)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            path.replace(target)


def _is_same(old: Path, new: Path) -> bool:
    return old.is_file() and new.is_file() and filecmp.cmp(old, new, shallow=False)
