"""The content of a file for a digest: all of it, or pieces of a large one."""

from collections.abc import Iterator
from pathlib import Path

NUM_PIECES, PIECE_BYTES = 64, 2**20


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
