"""A Python that starts at once, for programs that start others: its processes are forked from one with the imports.

It is an executable that takes `-c CODE`, `-m MODULE` or `FILE`, and arguments; with `-I` it starts a Python as usual.
Like any Python it has an environment, a directory, outputs and a parent of its own. It is the `sys.executable` of its
programs: what they start starts at once too. Variables that libraries read while they are imported keep the values of
the tests, but for HF_DATASETS_CACHE.
"""

import gc
import json
import os
import runpy
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets

from tests.forks import FORKS

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys

if sys.argv[1] == "-I":  # an isolated Python begins with no imports
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"0"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), os.getppid()]).encode())
    server.shutdown(socket.SHUT_WR)
    answers = server.makefile()
    process = int(answers.readline())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(process, number))
    status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
"""


@contextmanager
def warm_python() -> Iterator[str]:
    """Its path, while it is served."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        address, python = f"{directory}/socket", Path(directory, "python")
        python.write_text(CLIENT.format(python=sys.executable, address=address))
        python.chmod(stat.S_IRWXU)
        listener.bind(address)
        listener.listen()
        server = FORKS.Process(target=_serve, args=(listener, str(python)), daemon=True)
        server.start()
        yield str(python)
        server.kill()


def _serve(listener: socket.socket, python: str) -> None:
    """Fork a process for every start; it forks the program, and tells the client its process id and exit status."""
    gc.freeze()  # as in `tests.forks`
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these
    sys.executable = python
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _supervise(connection)
        connection.close()


def _supervise(connection: socket.socket) -> None:
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    arguments, directory, environment, parent = json.loads(connection.makefile().read())
    process = os.fork()
    if process == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # New objects: those of this process believe that they can seek, as in the file that they were opened on.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        os.getppid = lambda: parent
        os.environ.clear()
        os.environ.update(environment)
        if "HF_DATASETS_CACHE" in environment:
            datasets.config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
        os.chdir(directory)
        _run([argument for argument in arguments if argument != "-u"])
        sys.exit()
    connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    sys.exit()


def _run(arguments: list[str]) -> None:
    option, *following = arguments
    if option == "-c":
        sys.argv, sys.path[:0] = ["-c", *following[1:]], [os.getcwd()]
        exec(following[0], {"__name__": "__main__"})
    elif option == "-m":
        sys.argv, sys.path[:0] = following, [os.getcwd()]
        runpy.run_module(following[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = arguments, [str(Path(option).resolve().parent)]
        runpy.run_path(option, run_name="__main__")
