"""An output directory that appears at once when it is complete, and never overwrites a file."""

import errno
import filecmp
import glob
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
"""The lock file of a staging directory. The run that writes there holds it."""
UNLOCKED_PREFIX = ".unlocked"
"""Prefix of a staging directory's name until its run holds the lock, so that no other run removes it as a leftover."""
NO_SPACE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_SHOWN_FILES = 5


@contextmanager
def staged_directory(output_dir: Path, may_write: Sequence[str] = ("*",)) -> Iterator[Path]:
    """Yield a staging directory, which becomes `output_dir` when the body ends without an error.

    An existing `output_dir` may hold only files that the body writes again with the same contents. Staging
    directories that killed runs left for the same `output_dir` are removed.

    Args:
        output_dir: A new or an existing directory. An existing one is staged inside itself, so that its parent need
            not be writable.
        may_write: Patterns of the files that the body may write, relative to `output_dir`; `*` matches `/` too.

    Raises:
        ValueError: Before the body runs: `output_dir` is a file, cannot be made or written, or holds a file that
            matches no pattern. After it: a file there has other contents, or the disk is full. Nothing is changed.
    """
    output_dir = output_dir.resolve()  # the parent of `.` is `.`
    unlocked = _make_staging(output_dir, may_write)
    partial = unlocked.with_name(unlocked.name.removeprefix(UNLOCKED_PREFIX))
    staging = partial / "files"
    try:
        with FileLock(unlocked / LOCK_FILE):
            unlocked.rename(partial)
            staging.mkdir()
            yield staging
            _install(staging, output_dir)
    except OSError as error:
        if error.errno in NO_SPACE_ERRNOS:
            raise ValueError(f"output_dir {output_dir} has no space left: {error.strerror}; free some") from error
        raise
    finally:
        for left in (unlocked, partial):
            shutil.rmtree(left, ignore_errors=True)


def make_readable(directory: Path) -> None:
    """Let everybody read the weights in a directory; safetensors makes its files readable for their owner only."""
    for path in directory.glob("*.safetensors"):
        path.chmod(0o644)


def _make_staging(output_dir: Path, may_write: Sequence[str]) -> Path:
    verb = "made"
    try:
        if output_dir.exists():
            verb = "written"
            if not output_dir.is_dir():
                raise ValueError(f"output_dir {output_dir} is a file; name a directory")
            names = [name for name in _files_in(output_dir) if not any(fnmatchcase(name, one) for one in may_write)]
            _refuse_files(names, output_dir, "files that this run does not write", "name an empty directory")
        place = output_dir if output_dir.exists() else output_dir.parent
        place.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(output_dir)
        return Path(tempfile.mkdtemp(dir=place, prefix=UNLOCKED_PREFIX + _prefix(output_dir)))
    except OSError as error:
        raise ValueError(
            f"output_dir {output_dir} cannot be {verb}: {error.strerror}: {error.filename}; name another directory"
        ) from error


def _prefix(output_dir: Path) -> str:
    return f".{output_dir.name}-partial-"


def _remove_leftovers(output_dir: Path) -> None:
    """Remove the staging directories of killed runs into the same directory, in it or beside it."""
    for place in (output_dir, output_dir.parent):
        for lock in place.glob(f"{glob.escape(_prefix(output_dir))}*/{LOCK_FILE}"):
            try:
                with FileLock(lock, timeout=0):
                    logger.warning(f"{lock.parent} was left by a killed run; removing it.")
                    shutil.rmtree(lock.parent)
            except OSError:  # also Timeout: its run is alive, or it belongs to another user
                continue


def _files_in(output_dir: Path) -> list[str]:
    """The files of a directory without those of staging directories."""
    paths = [path.relative_to(output_dir) for path in sorted(output_dir.rglob("*")) if not path.is_dir()]
    own = _prefix(output_dir)
    return [path.as_posix() for path in paths if not path.parts[0].removeprefix(UNLOCKED_PREFIX).startswith(own)]


def _refuse_files(names: Sequence[str], output_dir: Path, what: str, remedy: str) -> None:
    if names:
        more = f" and {len(names) - MAX_SHOWN_FILES} more" if len(names) > MAX_SHOWN_FILES else ""
        shown = ", ".join(names[:MAX_SHOWN_FILES]) + more
        raise ValueError(f"output_dir {output_dir} holds {what}: {shown}. Nothing was changed; {remedy}")


def _install(staging: Path, output_dir: Path) -> None:
    if not output_dir.exists():
        staging.replace(output_dir)
        return
    other = [name for name in _files_in(output_dir) if not _is_same(output_dir / name, staging / name)]
    remedy = "name an empty directory, or use the arguments and the inputs that made these files"
    _refuse_files(other, output_dir, "files with other contents than this run wrote", remedy)
    for path in sorted(staging.rglob("*")):
        target = output_dir / path.relative_to(staging)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            path.replace(target)


def _is_same(old: Path, new: Path) -> bool:
    return old.is_file() and new.is_file() and filecmp.cmp(old, new, shallow=False)
