"""Runs SQL queries read-only and under limits, in a process of its own: `sql_execution` starts it as a script.

It is a process because SQLite cannot always be interrupted: it calls no handler while it compiles a query (nested
subqueries can grow expressions without bound) or within one function call (LIKE, instr). A process can be killed, and
the system enforces limits on its memory and temporary files.

Standard input: a marshalled dict, `uri`, `queries` and the fields of `QueryLimits`. Standard output: for each
query in turn one marshalled tuple (outcome, detail, columns, rows); the outcome is "ran" if it ran.
It imports little, so that it starts in about 40 ms.
"""

import marshal
import resource
import signal
import sqlite3
import sys
import time
from contextlib import closing
from typing import Any

STEPS_PER_CHECK = 1000
# Time after its limit at which a query that was not interrupted ends the process.
KILL_SECONDS = 0.5
ALLOWED_ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

Answer = tuple[str, str, int, list[tuple[Any, ...]]]


class Guard:
    """Allows only reading, and limits the steps and the time of one query."""

    def __init__(self, max_steps: int, max_seconds: float) -> None:
        self.denied = False
        self.checks_left = max_steps // STEPS_PER_CHECK
        self.deadline_seconds = time.monotonic() + max_seconds

    def authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        """The authorizer callback. For a function, `second` is its name in SQLite."""
        if action in ALLOWED_ACTIONS and second != "load_extension":
            return sqlite3.SQLITE_OK
        self.denied = True
        return sqlite3.SQLITE_DENY

    def is_over(self) -> bool:
        """The progress callback: whether to interrupt the query."""
        self.checks_left -= 1
        return self.checks_left < 0 or time.monotonic() > self.deadline_seconds


def run_query(uri: str, sql: str, max_seconds: float, max_steps: int, max_rows: int, max_result_bytes: int) -> Answer:
    """The rows of one query, or the limit that it reached."""
    guard = Guard(max_steps, max_seconds)
    rows: list[tuple[Any, ...]] = []
    num_bytes = 0
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max_result_bytes)
            # Lossless, so that two texts that are not UTF-8 are equal only if their bytes are.
            connection.text_factory = lambda text: text.decode(errors="surrogateescape")
            connection.set_authorizer(guard.authorize)
            connection.set_progress_handler(guard.is_over, STEPS_PER_CHECK)
            cursor = connection.execute(sql)
            for row in cursor:
                num_bytes += sys.getsizeof(row) + sum(map(sys.getsizeof, row))
                if len(rows) == max_rows:
                    return "too_many_rows", f"more than {max_rows} rows", 0, []
                if num_bytes > max_result_bytes:
                    return "too_large", f"more than {max_result_bytes} bytes", 0, []
                rows.append(row)
            return "ran", "", len(cursor.description or ()), rows
    except (sqlite3.Error, UnicodeEncodeError) as error:
        return outcome_of(error, guard), str(error), 0, []
    except MemoryError:
        return "too_large", "more memory than `max_memory_bytes`", 0, []


def outcome_of(error: Exception, guard: Guard) -> str:
    """The outcome of a query that raised an error."""
    if guard.denied:
        return "not_select"
    primary_code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary_code == sqlite3.SQLITE_INTERRUPT:
        return "timeout"
    # A temporary file at the limit of a file's size makes the disk seem full or faulty.
    if primary_code in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return "too_large"
    return "error"


def limit_process(max_memory_bytes: int) -> None:
    """Limit the address space (macOS has no such limit) and each temporary file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_memory_bytes, max_memory_bytes))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))


def main() -> None:
    """Answer the request on standard input."""
    request = marshal.load(sys.stdin.buffer)
    uri, queries = request.pop("uri"), request.pop("queries")
    limit_process(request.pop("max_memory_bytes"))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a Python handler would wait for SQLite to return
    for sql in queries:
        signal.setitimer(signal.ITIMER_REAL, request["max_seconds"] + KILL_SECONDS)
        answer = run_query(uri, sql, **request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        marshal.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
