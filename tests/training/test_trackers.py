"""Each tracker of `report_to` stores the losses, without a network.

They come with the extra `trackers`; of one that is not installed the test is skipped.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.integrations import TrackioCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from llm_jepa import JEPAConfig
from llm_jepa.recipe import parse_recipe
from llm_jepa.train import train
from llm_jepa.training.refusals import refuse_settings
from llm_jepa.training.trackers import PACKAGES
from tests.tiny import PAIRS, save_tiny_model

NAMES = ("lm_loss", "jepa_loss")
Logged = list[dict[str, float]]  # of each step, in their order


def of_trackio(directory: Path) -> Logged:
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import TRACKIO_DIR

    assert (TRACKIO_DIR / "ours.db").is_file()
    steps = SQLiteStorage.get_logs("ours", "first")
    return [{name: step[f"train/{name}"] for name in NAMES} for step in steps if "train/loss" in step]


def of_tensorboard(directory: Path) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = (directory / "tensorboard").rglob("events.out.tfevents.*")
    store = EventAccumulator(str(events))
    store.Reload()
    columns = [[event.value for event in store.Scalars(f"train/{name}")] for name in NAMES]
    return [dict(zip(NAMES, values, strict=True)) for values in zip(*columns, strict=True)]


def of_mlflow(directory: Path) -> Logged:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{directory}/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert run.info.run_name == "first"
    columns = [[metric.value for metric in client.get_metric_history(run.info.run_id, name)] for name in NAMES]
    return [dict(zip(NAMES, values, strict=True)) for values in zip(*columns, strict=True)]


def of_wandb(directory: Path) -> Logged:
    """An offline run is a log of protocol buffers: blocks of 32 KiB, each record behind its length and type."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # as the end of a process does: it waits for the process that writes
    [file] = directory.glob("wandb/offline-run-*/run-*.wandb")
    content, at, parts, steps = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record.FromString(parts)
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in items:
                steps.append({name: json.loads(items[f"train/{name}"]) for name in NAMES})
            parts = b""
    return steps


READERS: dict[str, Callable[[Path], Logged]] = {
    "trackio": of_trackio,
    "tensorboard": of_tensorboard,
    "mlflow": of_mlflow,
    "wandb": of_wandb,
}


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """A directory in which every tracker keeps its runs."""
    for name, value in {
        "TENSORBOARD_LOGGING_DIR": tmp_path / "tensorboard",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "ours",
        "WANDB_MODE": "offline",
        "WANDB_DIR": tmp_path,
        "WANDB_SILENT": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(directory: Path, **settings):
    save_tiny_model(directory / "model")
    (directory / "data.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    lines = {
        "model_name_or_path": directory / "model", "dataset_name": directory / "data.jsonl",
        "output_dir": directory / "out", "source_column": "source", "target_column": "target", "max_steps": 2,
        "logging_steps": 1, "save_strategy": "no", "bf16": "false", "use_cpu": "true", "run_name": "first",
        "project": "ours", "disable_tqdm": "true",
    }  # fmt: skip
    path = directory / "recipe.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in (lines | settings).items()))
    return parse_recipe([str(path)])


@pytest.mark.parametrize("tracker", READERS)
def test_a_trackers_own_store_has_the_losses_of_every_step(tracker, offline):
    pytest.importorskip(tracker)
    if tracker == "mlflow":
        pytest.importorskip("sqlalchemy", reason="mlflow-skinny needs it for its SQLite store")
    trainer = train(recipe(offline, report_to=tracker))
    expected = [{name: log[name] for name in NAMES} for log in trainer.state.log_history if "lm_loss" in log]
    assert len(expected) == 2
    logged = READERS[tracker](offline)
    assert [{name: pytest.approx(step[name], rel=1e-6) for name in NAMES} for step in expected] == logged


def test_trackio_publishes_nothing_unless_asked(offline):
    """transformers' default publishes the logs of a run that is pushed to the Hub as a Space."""
    trackio = pytest.importorskip("trackio")
    args = JEPAConfig("out", report_to="trackio", use_cpu=True, bf16=False)
    assert args.trackio_static_space_id is False
    assert recipe(offline).training.trackio_static_space_id is False
    assert recipe(offline, trackio_static_space_id="me/space").training.trackio_static_space_id == "me/space"
    assert recipe(offline, trackio_static_space_id="null").training.trackio_static_space_id is None

    callback, state = TrackioCallback(), type("State", (), {"is_world_process_zero": True})()
    trackio.init(project="ours", name="second")
    callback.on_push_begin(args, state, None, model=None)  # offline, an attempt to publish would fail
    args.trackio_static_space_id = None
    with pytest.raises(Exception, match=r"(?i)offline|connect|token|auth|private=True is not supported for static"):
        callback.on_push_begin(args, state, None, model=None)
    trackio.finish()


def test_a_tracker_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(PACKAGES, "tensorboard", ("absent", "json"))
    monkeypatch.setitem(PACKAGES, "wandb", ("absent",))
    refuse_settings(JEPAConfig("out", report_to="tensorboard", use_cpu=True, bf16=False))
    for given in ("wandb", ["tensorboard", "wandb"]):
        args = JEPAConfig("out", report_to=given, use_cpu=True, bf16=False)
        with pytest.raises(
            ValueError, match=r"`report_to: wandb` .* not installed.*pip install 'llm-jepa\[trackers\]'"
        ):
            refuse_settings(args)


def test_every_tracker_of_transformers_is_known():
    assert PACKAGES.keys() == INTEGRATION_TO_CALLBACK.keys()


def test_a_name_that_is_no_trackers_is_refused_with_those_that_are():
    args = JEPAConfig("out", report_to="trackoi", use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=r"`report_to: trackoi` names no tracker\. Allowed are trackio, "):
        refuse_settings(args)


@pytest.mark.parametrize("names", ["trackio,tensorboard", ["all", "trackio"], ["none", "trackio"]])
def test_several_trackers_are_a_list_and_all_stands_alone(names):
    args = JEPAConfig("out", report_to=names, use_cpu=True, bf16=False)
    message = r"names no tracker.* `--report_to trackio tensorboard` or in YAML `\[trackio, tensorboard\]`; and, alone"
    with pytest.raises(ValueError, match=message):
        refuse_settings(args)
