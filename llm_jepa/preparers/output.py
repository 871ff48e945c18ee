"""One output directory, which is there whole or not at all, and is never written over."""

import filecmp
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged_directory(output_dir: Path) -> Iterator[Path]:
    """A directory to write into, which becomes `output_dir` when the body ends without an error.

    If `output_dir` is there already, it must hold nothing but files that are written again, with the same contents.

    Raises:
        ValueError: It is a file, cannot be made, or holds anything else. Nothing is changed then.
    """
    output_dir = output_dir.resolve()  # the parent of `.` would be `.`, and what is staged there in it
    try:
        if output_dir.exists() and not output_dir.is_dir():
            raise ValueError(f"output_dir {output_dir} is a file; name a directory")
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=output_dir.parent, prefix=f".{output_dir.name}-partial-"))
    except OSError as error:
        raise ValueError(
            f"output_dir {output_dir} cannot be made: {error.strerror}: {error.filename}; name another directory"
        ) from error
    try:
        yield staging
        _install(staging, output_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _install(staging: Path, output_dir: Path) -> None:
    staging.chmod(0o755)  # mkdtemp's are its owner's alone
    there = [path for path in sorted(output_dir.rglob("*")) if not path.is_dir()] if output_dir.exists() else []
    foreign = [path.relative_to(output_dir) for path in there if not _is_written_again(path, staging, output_dir)]
    if foreign:
        shown = ", ".join(map(str, foreign[:5])) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise ValueError(
            f"output_dir {output_dir} holds what this run would not write: {shown}. Nothing was changed; name an "
            "empty directory, or give the arguments that made these files"
        )
    if not output_dir.exists():
        staging.replace(output_dir)
        return
    for path in sorted(staging.rglob("*")):
        target = output_dir / path.relative_to(staging)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            path.replace(target)


def _is_written_again(path: Path, staging: Path, output_dir: Path) -> bool:
    new = staging / path.relative_to(output_dir)
    return new.is_file() and filecmp.cmp(path, new, shallow=False)
