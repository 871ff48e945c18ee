"""What the modes of files forbid, for root too."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

VERSION_3 = 0x20080522
FILE_RIGHTS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
EFFECTIVE = 0  # of (effective, permitted, inheritable), for capabilities 0 to 31


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """While it lasts, this thread may read and write what the modes of files allow their owner; see capset(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    rights = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    before = rights[EFFECTIVE]
    rights[EFFECTIVE] &= ~FILE_RIGHTS
    assert libc.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[EFFECTIVE] = before
        assert libc.capset(header, rights) == 0
