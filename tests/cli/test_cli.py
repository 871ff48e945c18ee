"""`llm-jepa` lists its commands at once, imports only the one that is called, and hands it what is its own."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from llm_jepa import cli
from llm_jepa.entry import MISTAKE_STATUS


def test_help_lists_every_command_without_importing_torch():
    """A list of commands must not take the seconds that torch takes."""
    program = (
        "import sys\n"
        "from llm_jepa.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for command in cli.COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("name", cli.COMMANDS.values())
def test_a_command_has_what_the_dispatcher_needs(name):
    module = importlib.import_module(f"llm_jepa.cli.{name}")
    assert module.__doc__.partition("\n")[0].endswith(".")
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_every_module_is_a_command():
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(cli.COMMANDS.values())


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
