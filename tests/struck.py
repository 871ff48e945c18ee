"""`llm-jepa train`, struck at a named moment: killed, terminated, or out of room.

In a process forked by `tests.forks`, or started by `accelerate launch -m tests.struck`.
"""

import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llm_jepa.cli import main
from llm_jepa.trainer import JEPATrainer

WRITERS = {
    "torch.save": 1,
    "transformers.modeling_utils.safe_save_file": 1,
    "llm_jepa.objectives.own_parameters.save_file": 1,
    "transformers.TrainerState.save_to_json": 1,
    "pathlib.Path.write_text": 0,
}
"""What writes a run's files -> which argument is the path."""


@dataclass(frozen=True)
class Strike:
    """What happens to a process, once.

    Args:
        at: So many steps done and the next under way, or the end of a path: half of that file, or of what is to be
            deleted there, is written or gone.
        by: SIGKILL; SIGTERM, also one that the launcher passes on; SIGINT, once or twice; or no file may grow beyond
            so many bytes.
        rank: The process, if there are several.
    """

    at: int | str
    by: Literal["kill", "term", "int", "int twice", "launcher"] | int = "kill"
    rank: int = 0

    def fall(self) -> None:
        if isinstance(self.by, int):
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.by, self.by))
        elif self.by == "launcher":
            passed_on: list[bool] = []
            handler = signal.signal(signal.SIGTERM, lambda *_: passed_on.append(True))
            os.kill(os.getppid(), signal.SIGTERM)
            while not passed_on:  # whichever thread the signal came to, its handler runs in this one
                time.sleep(0.01)
            signal.signal(signal.SIGTERM, handler)
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            number = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(self.by, signal.SIGINT)
            for _ in range(2 if self.by == "int twice" else 1):
                os.kill(os.getpid(), number)


def train(strike: Strike | None, arguments: list[str]) -> int:
    """`llm-jepa train` with these arguments, struck; returns its exit status."""
    if strike is not None and strike.rank == int(os.environ.get("RANK", "0")):
        _await(strike)
    return main(["train", *arguments])


def _await(strike: Strike) -> None:
    if isinstance(strike.at, int):
        training_step, has_fallen = JEPATrainer.training_step, []

        def step(trainer: JEPATrainer, *args: Any, **kwargs: Any) -> Any:
            if trainer.state.global_step == strike.at and not has_fallen:
                has_fallen.append(True)
                strike.fall()
            return training_step(trainer, *args, **kwargs)

        JEPATrainer.training_step = step
        return
    for name, path_argument in WRITERS.items():
        _replace(name, lambda write, i=path_argument: _cut_writer(write, i, strike))
    _replace("shutil.rmtree", lambda remove: _cut_removal(remove, strike))


def _cut_writer(write: Callable, path_argument: int, strike: Strike) -> Callable:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = write(*args, **kwargs)
        path = str(args[path_argument])
        if path.endswith(str(strike.at)):
            if strike.by == "kill":
                os.truncate(path, os.path.getsize(path) // 2)
            strike.fall()
        return result

    return wrapper


def _cut_removal(remove: Callable, strike: Strike) -> Callable:
    def wrapper(path: Any, *args: Any, **kwargs: Any) -> None:
        if str(path).endswith(str(strike.at)):
            for name in sorted(os.listdir(path))[::2]:
                os.remove(os.path.join(path, name))
            strike.fall()
        remove(path, *args, **kwargs)

    return wrapper


def _replace(name: str, change: Callable[[Callable], Callable]) -> None:
    owner_name, _, attribute = name.rpartition(".")
    module_name, _, class_name = owner_name.rpartition(".")
    if class_name[:1].isupper():
        owner = getattr(importlib.import_module(module_name), class_name)
    else:
        owner = importlib.import_module(owner_name)
    setattr(owner, attribute, change(getattr(owner, attribute)))


def as_argument(strike: Strike) -> str:
    """For `python -m tests.struck STRIKE RECIPE ...`."""
    return json.dumps(asdict(strike))


if __name__ == "__main__":
    sys.exit(train(Strike(**json.loads(sys.argv[1])), sys.argv[2:]))
