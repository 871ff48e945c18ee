"""What surrounds the work of every program of the package: its log, and how a user's mistake ends it."""

import errno
import gc
import io
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from llm_jepa.settings.secrets import redacted_text

PACKAGE = Path(__file__).resolve().parent
MISTAKE_STATUS = 2
INTERRUPTED_STATUS = 128 + signal.SIGINT
USERS_ERRNOS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBUSY, errno.ENAMETOOLONG}
)
"""What of the machine's state only its user can change: permissions, space, mounts."""


NEEDLESS_WARNINGS = {
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    "DeepSpeed": "Setting accelerator to CPU",
}
"""Logger -> beginning of a warning that it gives at every start, whatever the recipe. The first is about kernels for
packed 4-bit weights, which this package never packs on a CPU. The second goes to standard output.
"""


@contextmanager
def cleaned_up_at_sigterm() -> Iterator[None]:
    """Make SIGTERM end the program as Ctrl-C does, so that incomplete files are removed and other processes ended."""

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def imports_uncollected() -> Iterator[None]:
    """Import without garbage collections: they find nothing, and take a third of the time.

    Later collections leave out what is loaded by then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def drop_needless_warnings() -> None:
    """Keep these warnings out of the log of every program that imports the package."""
    for name, beginning in NEEDLESS_WARNINGS.items():
        logging.getLogger(name).addFilter(partial(_does_not_begin, beginning))


def _does_not_begin(beginning: str, record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(beginning)


@contextmanager
def entry_point() -> Iterator[None]:
    """Run a program's body: log to standard error, and end with one line there when this package raises an error.

    Secrets are left out of both.

    So do errors of the user's files and directories, wherever they are met, and Ctrl-C. A ValueError or RuntimeError
    that comes out of another library is no message for the user: it keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does: data have signs that ASCII lacks
    # Of arguments that TRL still names in the old way; whoever runs a recipe can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    logger, handler = logging.getLogger("llm_jepa"), logging.StreamHandler()  # not the root: libraries have their own
    handler.setFormatter(_RedactingFormatter())
    logger.addHandler(handler)
    is_main_process = os.environ.get("RANK", "0") == "0"
    logger.setLevel(logging.INFO if is_main_process else logging.WARNING)
    try:
        yield
    except (ValueError, RuntimeError, FloatingPointError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if not raised_in.is_relative_to(PACKAGE):
            raise
        _end(str(error))
    except OSError as error:
        if error.errno not in USERS_ERRNOS:
            raise
        names = " -> ".join(f"`{name}`" for name in (error.filename, error.filename2) if name is not None)
        _end(f"{names}: {error.strerror}." if names else f"{error.strerror}.")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(INTERRUPTED_STATUS) from None
    finally:
        logger.removeHandler(handler)


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted_text(super().format(record))


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"error: {redacted_text(' '.join(message.split()))}\n")
    raise SystemExit(MISTAKE_STATUS) from None
