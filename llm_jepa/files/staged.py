"""One output directory, which is there whole or not at all, and is never written over."""

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
"""In a directory of what is not whole: held by the run that writes there."""
UNLOCKED = ".unlocked"
"""How the name of such a directory begins until the lock is held: nobody may find it and take its run for dead."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHOWN_FILES = 5


@contextmanager
def staged_directory(output_dir: Path, may_write: Sequence[str] = ("*",)) -> Iterator[Path]:
    """A directory to write into, which becomes `output_dir` when the body ends without an error.

    If `output_dir` is there already, it must hold nothing but files that are written again, with the same contents.
    What runs into the same directory have left that were killed is removed.

    Args:
        output_dir: A directory, there or not. One that is there is staged inside, so that its parent is not written.
        may_write: Patterns of the files that the body may write, as seen from `output_dir`; `*` matches `/` too.

    Raises:
        ValueError: It is a file, cannot be made or written, or holds a file of another name (all this before the body
            runs), or a file with other contents, or there is no room in it. Nothing is changed then.
    """
    output_dir = output_dir.resolve()  # the parent of `.` would be `.`
    unlocked = _begin(output_dir, may_write)
    partial = unlocked.with_name(unlocked.name.removeprefix(UNLOCKED))
    staging = partial / "files"
    try:
        with FileLock(unlocked / LOCK_FILE):
            unlocked.rename(partial)
            staging.mkdir()
            yield staging
            _install(staging, output_dir)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise ValueError(f"output_dir {output_dir} has no room: {error.strerror}; make some") from error
        raise
    finally:
        for left in (unlocked, partial):
            shutil.rmtree(left, ignore_errors=True)


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
        _remove_dead(output_dir)
        return Path(tempfile.mkdtemp(dir=place, prefix=UNLOCKED + _prefix(output_dir)))
    except OSError as error:
        raise ValueError(
            f"output_dir {output_dir} cannot be {verb}: {error.strerror}: {error.filename}; name another directory"
        ) from error


def _prefix(output_dir: Path) -> str:
    return f".{output_dir.name}-partial-"


def _remove_dead(output_dir: Path) -> None:
    """Delete what killed runs into the same directory have left, in it or beside it."""
    for place in (output_dir, output_dir.parent):
        for lock in place.glob(f"{glob.escape(_prefix(output_dir))}*/{LOCK_FILE}"):
            try:
                with FileLock(lock, timeout=0):
                    logger.warning(f"{lock.parent} was left by a run that was killed; it is removed.")
                    shutil.rmtree(lock.parent)
            except OSError:  # a Timeout too: its run is alive, or it is another user's
                continue


def _names(output_dir: Path) -> list[str]:
    """The files of a directory, but for those of runs under way."""
    paths = [path.relative_to(output_dir) for path in sorted(output_dir.rglob("*")) if not path.is_dir()]
    own = _prefix(output_dir)
    return [path.as_posix() for path in paths if not path.parts[0].removeprefix(UNLOCKED).startswith(own)]


def _refuse(names: Sequence[str], output_dir: Path, what: str, remedy: str) -> None:
    if names:
        more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
        shown = ", ".join(names[:SHOWN_FILES]) + more
        raise ValueError(f"output_dir {output_dir} holds {what}: {shown}. Nothing was changed; {remedy}")


def _install(staging: Path, output_dir: Path) -> None:
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
