"""Digests of files by their content: all of a file, or pieces of a large one."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

NUM_PIECES, PIECE_BYTES = 64, 2**20
MAX_PIECES = 4096
"""Of all files of a data set together."""


def content_pieces(path: Path, num_pieces: int = NUM_PIECES) -> Iterator[bytes]:
    """Pieces of 1 MiB: all of a file that has no more, else so many, spread evenly.

    Example: a file of 640 MiB is read from 0, 10.14, ..., 639 MiB on, so that the last of 64 ends with the file.
    """
    size_bytes = path.stat().st_size
    last = max(0, size_bytes - PIECE_BYTES)
    with path.open("rb") as file:
        if size_bytes <= num_pieces * PIECE_BYTES:
            yield from iter(lambda: file.read(PIECE_BYTES), b"")
            return
        for i in range(num_pieces):
            file.seek(last * i // max(1, num_pieces - 1))
            yield file.read(PIECE_BYTES)


def pieces_per_file(num_files: int) -> int:
    """64, or as many as make 4,096 of all files together, one at least."""
    return min(NUM_PIECES, max(1, MAX_PIECES // max(1, num_files)))


def content_digest(path: Path, num_pieces: int) -> str:
    """SHA-256 of a file's pieces. A process reads them once, unless the file's size or time changes."""
    status = path.stat()
    return _digest(path.resolve(), num_pieces, status.st_size, status.st_mtime_ns)


def files_digest(files: Sequence[Path]) -> str:
    """A digest of files by their paths, sizes, times and contents: 16 hexadecimal digits."""
    num_pieces = pieces_per_file(len(files))
    known = [(file.resolve(), file.stat()) for file in files]
    states = [
        (str(file), status.st_size, status.st_mtime_ns, content_digest(file, num_pieces)) for file, status in known
    ]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


@cache
def _digest(path: Path, num_pieces: int, size_bytes: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    for piece in content_pieces(path, num_pieces):
        digest.update(piece)
    return digest.hexdigest()
