"""Processes of their own that start at once: forked from one that has done the imports.

They take its objects out of the garbage collector's sight (`gc.freeze`): a full collection goes through all modules
otherwise, which took longer than the tests' trainings.
"""

import gc
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import datasets

TIMEOUT_SECONDS = 240
FORKS = multiprocessing.get_context("forkserver")
# Installed modules alone: the server does not know where the tests lie, and says nothing of what it cannot import.
FORKS.set_forkserver_preload(
    [
        "deepspeed",
        "accelerate.commands.accelerate_cli",
        "llm_jepa.cli.train",
        "llm_jepa.cli.eval",
        "llm_jepa.cli.plan",
        "llm_jepa.cli.probe",
    ]
)


def fork(log: Path, function: Callable[..., Any], *args: Any, **environment: str) -> BaseProcess:
    """Call a function in a process of its own, in the current directory; what it says goes to a file."""
    process = FORKS.Process(target=_call, args=(function, args, str(log.resolve()), os.getcwd(), environment))
    process.start()
    return process


def fork_ranks(num_processes: int, function: Callable[..., Any], *args: Any) -> list[int | None]:
    """What a launcher does, without it: processes that know of each other by the environment; their exit statuses.

    What they say goes to log-0, log-1, ... in the current directory.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    size = str(num_processes)
    meeting = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        fork(Path(f"log-{rank}"), function, *args, RANK=str(rank), LOCAL_RANK=str(rank), **meeting)
        for rank in range(num_processes)
    ]
    for process in processes:
        process.join(TIMEOUT_SECONDS)
    return [process.exitcode for process in processes]


def said_by_ranks() -> str:
    return "".join(path.read_text() for path in sorted(Path().glob("log-*")))


def _call(function: Callable[..., Any], args: tuple, log: str, directory: str, environment: dict[str, str]) -> None:
    gc.freeze()
    os.environ.update(environment)
    os.chdir(directory)
    datasets.config.HF_DATASETS_CACHE = Path(log).parent / "cache"
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(function(*args))
