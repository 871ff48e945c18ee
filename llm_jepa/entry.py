"""What surrounds the work of every program of the package: its log, and how a user's mistake ends it."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
MISTAKE_STATUS = 2


@contextmanager
def entry_point() -> Iterator[None]:
    """Run a program's body: log to standard error, and end with one line there when this package raises an error.

    A ValueError or RuntimeError that comes out of another library is no message for the user: it keeps its traceback.
    """
    logging.basicConfig(format="%(message)s")
    # Of arguments that TRL still names in the old way; whoever runs a recipe can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    is_main_process = os.environ.get("RANK", "0") == "0"
    logging.getLogger("llm_jepa").setLevel(logging.INFO if is_main_process else logging.WARNING)
    try:
        yield
    except (ValueError, RuntimeError, FloatingPointError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
        if not raised_in.is_relative_to(PACKAGE):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(MISTAKE_STATUS) from None
