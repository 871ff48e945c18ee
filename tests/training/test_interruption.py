"""After a kill, a signal or a full disk, the same command resumes the run, which ends as if never interrupted."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from llm_jepa.entry import INTERRUPTED_STATUS, MISTAKE_STATUS
from llm_jepa.objectives.own_parameters import PREDICTOR_FILE
from llm_jepa.training.checkpoints import MANIFEST_FILE, is_whole, last_whole_checkpoint, write_manifest
from tests.forks import TIMEOUT_SECONDS, fork, fork_ranks, said_by_ranks
from tests.struck import Strike, as_argument, train
from tests.tiny import PAIRS, save_tiny_model

TESTS = Path(__file__).parents[1]
SETTINGS = {
    "source_column": "source",
    "target_column": "target",
    "dataset_test_split": "train",
    "num_predictor_tokens": 2,
    "jepa_dropout": 0.3,
    "max_steps": 10,  # of 4 an epoch
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "logging_steps": 3,
    "eval_strategy": "epoch",
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
}
OF_THIS_SESSION = ("_runtime", "_per_second", "train_loss", "peak_memory_gib")
"""Logged values that transformers measures since the latest start."""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with a recipe for a tiny model that has dropout."""
    directory = tmp_path_factory.mktemp("interrupted")
    save_tiny_model(directory / "model", attention_dropout=0.2)
    (directory / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    places = {"model_name_or_path": str(directory / "model"), "dataset_name": str(directory / "rows.jsonl")}
    (directory / "recipe.yaml").write_text(yaml.safe_dump(places | SETTINGS | {"output_dir": "out"}))
    return directory


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert run(place) == 0, said()
    return directory / "out"


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(place: Path, strike: Strike | None = None, *overrides: str) -> int | None:
    """Train the recipe in the current directory; returns the exit status, negative if a signal ended it."""
    process = fork(Path("log"), train, strike, [str(place / "recipe.yaml"), *overrides])
    process.join(TIMEOUT_SECONDS)
    return process.exitcode


def said() -> str:
    return Path("log").read_text()


def steps_there(directory: str = "out") -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in Path(directory).glob("checkpoint-*"))


def logged(output_dir: Path) -> list[dict]:
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [{key: entry[key] for key in entry if not key.endswith(OF_THIS_SESSION)} for entry in history]


def assert_same_run(output_dir: Path, undisturbed: Path) -> None:
    """All logs, the final weights, and the final predictor vectors and optimizer state."""
    assert logged(output_dir) == logged(undisturbed)
    assert any("jepa_cosine_unpaired" in entry for entry in logged(output_dir))
    for file in ("model.safetensors", f"checkpoint-10/{PREDICTOR_FILE}", "checkpoint-10/optimizer.pt"):
        assert (output_dir / file).read_bytes() == (undisturbed / file).read_bytes(), file


# --- kill -9


KILLS = [
    (1, None),
    ("checkpoint-2/model.safetensors", None),
    (3, None),
    ("checkpoint-4/training_args.bin", 2),
    (f"checkpoint-4/{PREDICTOR_FILE}", 2),
    ("checkpoint-4/optimizer.pt", 2),
    ("checkpoint-4/log_window_0.pt", 2),
    (f"checkpoint-4/{MANIFEST_FILE}", 2),
    ("checkpoint-4/trainer_state.json", 2),
    (5, 2),
    ("out/checkpoint-2", 4),
    (7, 6),
    ("out/model.safetensors", 6),
    ("out/trainer_state.json", 10),
]
"""Moments of kills, in order, each with the step that the killed run had resumed from."""


def test_a_run_killed_at_every_moment_ends_as_an_undisturbed_one(place, undisturbed):
    """During a step, each file of a checkpoint, the deletion of an old one, the final model, and the final state."""
    for moment, resumed_from in KILLS:
        assert run(place, Strike(moment)) == -signal.SIGKILL, (moment, said())
        assert (f"Resuming from out/checkpoint-{resumed_from}." in said()) == (resumed_from is not None), moment
    a_further_step = Strike(SETTINGS["max_steps"])
    assert run(place, a_further_step) == 0, said()
    assert "Resuming from out/checkpoint-10." in said()
    assert_same_run(Path("out"), undisturbed)
    assert steps_there() == [8, 10]


def test_a_kill_before_the_recipe_is_written_leaves_nothing_in_the_way(place):
    assert run(place, Strike("recipe.yaml.partial")) == -signal.SIGKILL
    assert sorted(path.name for path in Path("out").iterdir()) == ["recipe.yaml.partial", "run.lock"]
    assert run(place, None, "--max_steps=1") == 0, said()


# --- what is whole


def test_a_checkpoint_is_whole_when_all_its_files_are_there_in_full_length(tmp_path):
    """A short, empty or missing file of any name, at any depth, and a state that is not JSON make it not whole."""
    checkpoint = tmp_path / "checkpoint-3"
    contents = {"model.safetensors": b"weights", "global_step3/shard.pt": b"shard", "optimizer.pt": b"moments"}

    def write() -> None:
        for name, content in contents.items():
            (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
            (checkpoint / name).write_bytes(content)
        write_manifest(checkpoint)
        (checkpoint / "trainer_state.json").write_text('{"global_step": 3}')

    write()
    assert is_whole(checkpoint)
    for name, content in contents.items():
        for cut in (content[:-1], b""):
            (checkpoint / name).write_bytes(cut)
            assert not is_whole(checkpoint)
        (checkpoint / name).unlink()
        assert not is_whole(checkpoint)
        write()
    for name in (MANIFEST_FILE, "trainer_state.json"):
        (checkpoint / name).write_text('{"global_')
        assert not is_whole(checkpoint)
        write()
    assert is_whole(checkpoint)


def test_the_last_checkpoint_is_the_one_of_most_steps(tmp_path):
    """Compared as numbers; other directories are ignored."""
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
        write_manifest(tmp_path / f"checkpoint-{step}")
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-11" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


# --- SIGTERM and Ctrl-C


@pytest.mark.parametrize(
    ("step", "by"), [(5, "term"), (8, "term"), (6, "int")], ids=["within-an-epoch", "at-its-end", "Ctrl-C"]
)
def test_a_signal_saves_the_step_under_way_and_the_run_goes_on_from_it(step, by, place, undisturbed):
    number = {"term": signal.SIGTERM, "int": signal.SIGINT}[by]
    assert run(place, Strike(step - 1, by=by)) == 128 + number, said()
    assert f"{number.name}: checkpoint-{step} is saved; the same command resumes from it." in said()
    assert max(steps_there()) == step
    assert not Path("out/model.safetensors").exists()
    assert run(place) == 0, said()
    assert f"Resuming from out/checkpoint-{step}." in said()
    assert_same_run(Path("out"), undisturbed)


def test_a_second_ctrl_c_ends_at_once(place, undisturbed):
    """The same command then resumes from the last checkpoint of `save_steps`."""
    assert run(place, Strike(5, by="int twice")) == INTERRUPTED_STATUS, said()
    assert said().splitlines()[-1] == "interrupted"
    assert max(steps_there()) == 4
    assert run(place) == 0, said()
    assert_same_run(Path("out"), undisturbed)


def test_sigterm_when_no_step_is_left_lets_the_run_finish(place, undisturbed):
    assert run(place, Strike("out/model.safetensors", by="term")) == 0, said()
    assert_same_run(Path("out"), undisturbed)


# --- several processes


def run_two(place: Path, strike: Strike | None, *overrides: str) -> list[int | None]:
    return fork_ranks(2, train, strike, [str(place / "recipe.yaml"), *overrides])


def test_two_processes_stop_at_one_step_and_go_on_exactly(place, python):
    """After a kill of one process, no partial checkpoint counts as whole; the launcher passes SIGTERM on to both."""
    assert run_two(place, None, "--output_dir=whole") == [0, 0], said_by_ranks()

    statuses = run_two(place, Strike("checkpoint-4/rng_state_1.pth", rank=1))
    assert statuses == [MISTAKE_STATUS, -signal.SIGKILL], said_by_ranks()
    assert "error: checkpoint-4 could not be written to out" in Path("log-0").read_text()
    assert steps_there() == [2, 4]
    assert last_whole_checkpoint(Path("out")) == Path("out/checkpoint-2")

    strike = as_argument(Strike(4, by="launcher", rank=1))
    launch = ("accelerate.commands.launch", "--config_file", str(TESTS / "cpu-2.yaml"), "-m", "tests.struck", strike)
    launched = subprocess.run(
        [python, "-m", *launch, str(place / "recipe.yaml")],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert launched.returncode != 0, launched.stdout
    assert "Resuming from out/checkpoint-2." in launched.stdout
    assert launched.stdout.count("SIGTERM: checkpoint-5 is saved") == 1, launched.stdout
    assert last_whole_checkpoint(Path("out")) == Path("out/checkpoint-5")

    assert run_two(place, None) == [0, 0], said_by_ranks()
    assert_same_run(Path("out"), Path("whole"))


# --- no room


def assert_says_what_is_kept() -> None:
    error = said().strip().splitlines()[-1]
    assert error.startswith("error: checkpoint-4 could not be written to out: "), said()
    assert "out/checkpoint-2 is kept; the same command resumes from it" in error
    assert "Traceback" not in said()


@pytest.mark.parametrize("cut_file", ["model.safetensors", "optimizer.pt"])
def test_a_file_that_cannot_be_written_leaves_the_last_checkpoint(cut_file, place, undisturbed):
    """A limit on file size makes the writing of the weights, or of the optimizer's state, fail."""
    limit_bytes = (undisturbed / "checkpoint-10" / cut_file).stat().st_size - 1000
    assert run(place, Strike(3, by=limit_bytes)) == MISTAKE_STATUS, said()
    assert_says_what_is_kept()
    assert steps_there() == [2, 4]
    assert run(place, Strike(5)) == -signal.SIGKILL
    assert run(place) == 0, said()
    assert_same_run(Path("out"), undisturbed)


def test_a_full_disk_leaves_the_last_checkpoint_and_the_rest_gives_its_room_back(place, undisturbed):
    """The disk holds one checkpoint and a half. Once it holds more, the partial one is removed before it is used."""
    checkpoint = sum(path.stat().st_size for path in (undisturbed / "checkpoint-10").iterdir())
    Path("out").mkdir()
    size = f"size={int(1.5 * checkpoint)}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", "out"], capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        assert run(place) == MISTAKE_STATUS, said()
        assert_says_what_is_kept()
        assert last_whole_checkpoint(Path("out")) == Path("out/checkpoint-2")
        subprocess.run(["mount", "-o", f"remount,size={4 * checkpoint}", "out"], check=True)
        assert run(place) == 0, said()
        assert "Resuming from out/checkpoint-2." in said()
        assert "out/checkpoint-4 is not whole and is removed." in said()
        assert_same_run(Path("out"), undisturbed)
    finally:
        subprocess.run(["umount", "out"], check=True)
