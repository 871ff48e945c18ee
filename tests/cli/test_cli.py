"""`llm-jepa` answers at once where nothing is to be computed, and hands a command what is its own."""

import argparse
import importlib
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from llm_jepa import cli
from llm_jepa.cli import arguments, progress, refusals
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.evaluation.run import BACKENDS
from llm_jepa.models.known_models import KNOWN_MODELS
from llm_jepa.models.packaged_weights import GgufWeights
from llm_jepa.models.source import KNOWN_ENCODERS, KNOWN_MODEL_IDS

HEAVY = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")
"""Libraries whose import takes seconds."""
PROGRAM = """
import json, sys
from llm_jepa import cli, train
for argv in json.loads(sys.argv[1]):
    try:
        train.main(argv[1:]) if argv[0] == "llm_jepa.train" else cli.main(argv)
    except SystemExit as ended:
        print(f"status {ended.code}")
print("imported:", *(name for name in json.loads(sys.argv[2]) if name in sys.modules))
"""


def ran(*command_lines: list[str], heavy: Sequence[str] = HEAVY, directory: Path | None = None) -> str:
    """What command lines print in one fresh process, and at its end which heavy libraries they imported.

    `llm_jepa.train ...` is what `python -m llm_jepa.train` and executable recipes run.
    """
    command = [sys.executable, "-c", PROGRAM, json.dumps(command_lines), json.dumps(heavy)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=directory)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_help_needs_no_library_that_takes_seconds():
    """The list of commands, and the help of every command."""
    printed = ran(["--version"], ["--help"], *([command, "--help"] for command in cli.COMMANDS))
    assert printed.startswith(f"llm-jepa {importlib.metadata.version('llm-jepa')}\nstatus 0\n")
    assert printed.count("status 0") == 2 + len(cli.COMMANDS)
    assert "imported:\n" in printed
    for command in cli.COMMANDS:
        assert f"usage: llm-jepa {command}" in printed


RECIPE = "model_name_or_path: model\ndataset_name: rows.jsonl\noutput_dir: out\n"
WRONG_RECIPES = {
    "unknown.yaml": (RECIPE + "learnin_rate: 1\n", "Did you mean `learning_rate`?"),
    "type.yaml": (RECIPE + "seed: x\n", "`seed` is 'x'; it must be a whole number"),
    "range.yaml": (RECIPE + "jepa_dropout: 2\n", "`jepa_dropout` is 2.0"),
    "conflict.yaml": (RECIPE + "lora_r: 4\n", "`lora_r` would have no effect"),
    "idle.yaml": (RECIPE + "jepa_objective: tube\njepa_loss: l2\n", "`jepa_loss: l2` would have no effect"),
    "trl.yaml": (RECIPE + "packing: true\n", "Leave them off"),
    "required.yaml": ("model_name_or_path: model\noutput_dir: out\n", "`dataset_name` must be given"),
    "data.yaml": (RECIPE.replace("rows", "absent"), "There is no file or directory `absent.jsonl`"),
}
WRONG_RUNS = {
    "--report_to foo": "`report_to: foo` names no tracker",
    "--resume_from_checkpoint nope": "`resume_from_checkpoint: nope` is no checkpoint, or not whole",
    "--push_to_hub true": "out: You are not logged in",
    "--model_name_or_path ./absent": "`model_name_or_path: ./absent` is no directory",
}
"""Overrides of a right recipe that `train` refuses by looking at this machine."""
WRONG_COMMANDS = {
    "plan right.yaml --gpu h100x": "The GPU 'h100x' is unknown. Known are t4-16gb",
    "plan right.yaml --gpus 0": "`--gpus` is 0; it must be a finite number above 0",
    "inspect right.yaml --rows 0": "argument --rows: '0' is not a whole number of at least 1",
    "inspect right.yaml --model_name_or_path ./nope": "`model_name_or_path: ./nope` is no directory",
    "plan right.yaml --source_column qestion --target_column target": "`rows.jsonl` has no column 'qestion'.",
    "merge nope --output_dir merged": "'nope' is not an adapter: it has no adapter_config.json",
    "merge model --output_dir model": "`output_dir: model` is not empty",
    "push nope --repo_id team/x": "`nope` is no directory",
    "push . --repo_id team/x": "`.` holds no adapter (adapter_config.json) and no model (config.json)",
    "push model --repo_id team/x": "team/x: You are not logged in. Run `hf auth login`",
    "push model --repo_id team/x/y": "team/x/y: A repository is named NAME or OWNER/NAME",
}


def test_a_wrong_recipe_is_refused_without_a_library_that_takes_seconds(tmp_path):
    """By every command that takes one; and a wrong override, a recipe that is not there, data that are not there."""
    (tmp_path / "right.yaml").write_text(RECIPE)
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n')
    for name, (text, _) in WRONG_RECIPES.items():
        (tmp_path / name).write_text(text)
    commands = ("train", "inspect", "plan", "eval", "probe", "llm_jepa.train")
    overridden = [[command, "right.yaml", "--learnin_rate", "1"] for command in commands]
    absent = [[command, "absent.yaml"] for command in commands]
    wrong = [[command, name] for command in commands for name in WRONG_RECIPES]
    others = ["eval", "a/run", "--learnin_rate", "1"], ["inspect", "absent.csv"]
    printed = ran(*wrong, *overridden, *absent, *others, directory=tmp_path)
    assert printed.count("status 2") == len(commands) * (len(WRONG_RECIPES) + 2) + len(others)
    assert "imported:\n" in printed
    for _, message in WRONG_RECIPES.values():
        assert printed.count(message) >= len(commands)
    assert printed.count("There is no recipe `absent.yaml`") == len(commands)
    assert "There is no file or directory `absent.csv`" in printed


UNFINISHED, UNTRAINED = "The run in `output_dir: half` has not finished", "`output_dir: out` holds no trained model"
WRONG_EVALUATIONS = {
    "right.yaml": UNTRAINED,
    "right.yaml --checkpoints tuned": UNTRAINED,
    "right.yaml --checkpoints bsae": "Checkpoints 'bsae'; allowed are base, tuned, each once.",
    "right.yaml --checkpoints base,base": "Checkpoints 'base,base'",
    "right.yaml --max_rows 0": "argument --max_rows: '0' is not a whole number of at least",
    "right.yaml --eval_batch_size 0": "argument --eval_batch_size: '0' is not a whole number of at least 1",
    "right.yaml --output_dir half": UNFINISHED,
    "half": UNFINISHED,
}
"""What `eval` and `probe` refuse by looking at the command line and at this machine."""


def test_what_cannot_be_evaluated_is_refused_without_a_library_that_takes_seconds(tmp_path):
    """Also while a run is under way: recipe and environment are there, and what an earlier one left of the model."""
    (tmp_path / "right.yaml").write_text(RECIPE)
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "recipe.yaml").write_text(RECIPE)
    for name in ("environment.json", "config.json"):
        (tmp_path / "half" / name).write_text("{}")
    wrong = [[command, *words.split()] for command in ("eval", "probe") for words in WRONG_EVALUATIONS]
    others = [["eval", "right.yaml", "--max_new_tokens", "0"], ["probe", "right.yaml", "--max_rows", "3"]]
    printed = ran(*wrong, *others, directory=tmp_path)
    assert printed.count("status 2") == len(wrong) + len(others)
    assert "imported:\n" in printed
    for message in WRONG_EVALUATIONS.values():
        assert printed.count(message) == 2 * list(WRONG_EVALUATIONS.values()).count(message), message
    assert "argument --max_new_tokens: '0' is not" in printed
    assert "argument --max_rows: '3' is not a whole number of at least 4" in printed


def test_what_this_machine_cannot_do_is_refused_without_a_library_that_takes_seconds(tmp_path, monkeypatch):
    """A run by `llm-jepa train` and by `python -m llm_jepa.train`, and the other commands."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "right.yaml").write_text(RECIPE)
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    runs = [[start, "right.yaml", *words.split()] for words in WRONG_RUNS for start in ("train", "llm_jepa.train")]
    others = [words.split() for words in WRONG_COMMANDS]
    printed = ran(*runs, *others, directory=tmp_path)
    assert printed.count("status 2") == len(runs) + len(others)
    assert "imported:\n" in printed
    for message in WRONG_RUNS.values():
        assert printed.count(message) == 2
    for message in WRONG_COMMANDS.values():
        assert printed.count(message) == 1, message


def test_data_are_inspected_without_torch(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 3)
    libraries = [name for name in HEAVY if name != "datasets"]
    printed = ran(["inspect", "rows.jsonl"], heavy=libraries, directory=tmp_path)
    assert "source_column: question" in printed
    assert "imported:\n" in printed


@pytest.mark.parametrize("name", cli.COMMANDS.values())
def test_a_command_has_what_the_dispatcher_needs(name):
    module = importlib.import_module(f"llm_jepa.cli.{name}")
    assert module.__doc__.partition("\n")[0].endswith(".")
    assert callable(module.run)


def test_signs_that_the_terminal_lacks_are_escaped(tmp_path):
    """Data and tables have signs that ASCII has not."""
    (tmp_path / "rows.jsonl").write_text('{"question": "größer als 1?", "answer": "→ 2"}\n' * 2, encoding="utf-8")
    code = "import sys; from llm_jepa.cli import main; sys.exit(main(['inspect', 'rows.jsonl']))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert r"gr\xf6\xdfer als 1?" in shown.stdout
    assert r"\u2192 2" in shown.stdout


def test_every_module_is_a_command():
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    modules -= {"__init__", "argument_types", "arguments", "consoles", "inference_arguments", "progress", "refusals"}
    modules -= {"eval_decodings", "eval_generation", "eval_vision", "inspect_data", "inspect_recipe", "inspect_vision"}
    modules -= {"latency_vision", "plan_latency", "plan_vision", "report_directory", "tables"}
    assert modules == set(cli.COMMANDS.values())
    assert arguments.ADD_ARGUMENTS.keys() == refusals.CHECKS.keys() == cli.COMMANDS.keys()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_an_option_may_be_spelled_with_dashes(command):
    """Each option is listed once, with underscores; `--max-rows=1-2` is read as `--max_rows=1-2`."""
    parser = argparse.ArgumentParser()
    arguments.ADD_ARGUMENTS[command](parser)
    for option in {*parser._option_string_actions} - {"-h", arguments.HELP_ALL}:
        assert "-" not in option[2:]
        dashed = option[:2] + option[2:].replace("_", "-")
        assert cli._with_underscores(dashed) == option
        assert cli._with_underscores(f"{dashed}=a-b") == f"{option}=a-b"
    for word in ("a-b", "-h", "-1", "--", "--is-it a text?", arguments.HELP_ALL):
        assert cli._with_underscores(word) == word


def test_the_choices_in_the_help_are_those_of_the_modules():
    """They are written out where nothing heavy is imported."""
    assert arguments.BACKENDS == BACKENDS
    ids = {name: known.hub_id for name, known in KNOWN_MODELS.items() if isinstance(known.weights, GgufWeights)}
    assert ids == KNOWN_MODEL_IDS
    assert {*ids, *KNOWN_ENCODERS} == KNOWN_MODELS.keys()


def test_what_is_left_over_overrides_the_recipe(tmp_path, capsys):
    """A list keeps its words together, and a mistake in an override ends in one line."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model_name_or_path: model\ndataset_name: data\noutput_dir: out\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(recipe), "--lora_target_modules", "q_proj", "v_proj", "--max_steps", "-1"])
    assert ended.value.code == MISTAKE_STATUS
    assert capsys.readouterr().err == (
        f"error: {recipe}: `lora_target_modules` would have no effect without `use_peft: true`.\n"
    )


@pytest.mark.parametrize("command", ["train", "inspect", "eval"])
def test_an_override_before_the_recipe_is_told_that_the_recipe_comes_first(command, capsys):
    """Else the override's value would be taken for the recipe."""
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--max_steps", "2", "recipe.yaml"])
    assert ended.value.code == MISTAKE_STATUS
    assert f"the recipe comes first: llm-jepa {command} RECIPE [--key value ...]" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["trian"], ["fetch-model", "smollm2-135m-instruct", "--max_steps", "2"]])
def test_a_wrong_command_line_is_a_usage_error(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == MISTAKE_STATUS
    assert "usage: llm-jepa" in capsys.readouterr().err


def test_env_says_what_a_bug_report_needs_and_nothing_of_the_machines_owner(capsys):
    assert cli.main(["env"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    for name in ("llm-jepa", "torch", "transformers", "trl", "peft"):
        assert lines[name] == importlib.metadata.version(name)
    assert {"python", "platform", "cores", "commit", "device"} <= lines.keys()
    assert not any("/" in value or os.sep in value for value in lines.values())
    assert socket.gethostname() not in "".join(lines.values())


def test_stages_are_lines_on_standard_error_where_there_is_no_terminal(capsys):
    with progress.stages() as begin:
        begin("reading [the] rows")
        begin("counting")
    assert capsys.readouterr().err == "reading [the] rows\ncounting\n"


def test_importing_the_package_prints_nothing():
    """Neither bitsandbytes about kernels never used, nor DeepSpeed on standard output; other warnings stay."""
    program = (
        "import gc, importlib.util, logging\n"
        "gc.disable()  # imports take a third less time\n"
        "import llm_jepa.trainer, llm_jepa.experiments.cell_run\n"
        "if importlib.util.find_spec('deepspeed'):\n    import deepspeed\n"
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('another one')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "another one\n")
