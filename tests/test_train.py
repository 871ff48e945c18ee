"""A run overwrites nothing, resumes exactly, and starts in every documented way."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import DeepSpeedPlugin
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from llm_jepa import cli
from llm_jepa.entry import MISTAKE_STATUS, entry_point
from llm_jepa.recipe import Recipe, parse_recipe
from llm_jepa.runs.output_directory import output_directory_lock
from llm_jepa.runs.record import RECIPE_FILE
from llm_jepa.settings.reading import read_settings
from llm_jepa.train import build_any_trainer, main, train
from llm_jepa.training.checkpoints import check_resume, checkpoint_to_resume
from llm_jepa.training.launch import check_deepspeed, check_distributed_type, check_processes
from llm_jepa.training.refusals import refuse_fewer_rows_than_processes
from tests.tiny import PAIRS, save_tiny_model

REPOSITORY = Path(__file__).parent.parent
SHEBANG = "#!/usr/bin/env -S python -m llm_jepa.train\n"
SETTINGS = {
    "source_column": "source",
    "target_column": "target",
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "save_strategy": "no",
    "logging_steps": 1,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A directory with a tiny model and eight rows."""
    directory = tmp_path_factory.mktemp("inputs")
    save_tiny_model(directory / "model")
    lines = [json.dumps(pair) + "\n" for pair in PAIRS]
    (directory / "data").mkdir()
    (directory / "data" / "train.jsonl").write_text("".join(lines))
    (directory / "data" / "test.jsonl").write_text("".join(lines[:2]))
    return directory


@pytest.fixture(autouse=True)
def _own_place(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.chdir(tmp_path)


def write(inputs: Path, **changes) -> Path:
    """A recipe for the tiny model in the current directory, with some settings changed."""
    places = {
        "model_name_or_path": str(inputs / "model"),
        "dataset_name": str(inputs / "data"),
        "output_dir": str(Path.cwd() / "out"),
    }
    path = Path.cwd() / "recipe.yaml"
    path.write_text(SHEBANG + yaml.safe_dump(places | SETTINGS | changes, sort_keys=False))
    path.chmod(0o755)
    return path


def read(inputs: Path, **changes) -> Recipe:
    return parse_recipe([str(write(inputs, **changes))])


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def assert_same_weights(one: Path, other: Path, **tolerances) -> None:
    expected = weights(other)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, expected[name], **({"rtol": 0, "atol": 0} | tolerances))


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- one run ---


def test_a_run_leaves_a_plain_model_and_its_resolved_recipe(inputs):
    """The saved recipe has the overrides; transformers alone loads the model; its weights have changed.

    The token is in no file, nor in those of the checkpoint.
    """
    options = ["--seed", "7", "--save_strategy", "steps", "--save_steps", "1", "--hub_token", "mine-0123"]
    trainer = train(parse_recipe([str(write(inputs)), *options]))
    out = Path("out")
    assert trainer.state.global_step == 2
    assert read_settings(out / RECIPE_FILE)["seed"] == 7
    files = snapshot(out)
    assert {"training_args.bin", "checkpoint-1/training_args.bin"} <= files.keys()
    assert not [name for name, content in files.items() if b"mine-0123" in content]
    assert trainer.args.hub_token == "mine-0123"
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), "no key is missing, unexpected or mismatched"
    moved = model.get_input_embeddings().weight - weights(inputs / "model")["model.embed_tokens.weight"]
    assert moved.abs().max() > 1e-4


def test_lora_leaves_a_plain_adapter(inputs):
    train(read(inputs, use_peft=True, lora_target_modules=["q_proj", "v_proj"], learning_rate=0.1))
    base = AutoModelForCausalLM.from_pretrained(inputs / "model")
    ids = torch.arange(10, 20)[None]
    plain_logits = base(ids).logits.clone()
    tuned = PeftModel.from_pretrained(base, "out")
    assert tuned.peft_config["default"].target_modules == {"q_proj", "v_proj"}
    assert (tuned(ids).logits - plain_logits).abs().max() > 1e-3


def test_the_card_beside_the_weights_names_no_path_of_the_machine(inputs):
    """The cards of PEFT and TRL name the base's directory. Somebody may upload the card or a checkpoint by hand."""
    train(read(inputs, use_peft=True, save_strategy="steps", save_steps=1))
    cards = sorted(Path("out").rglob("README.md"))
    assert [str(card.parent) for card in cards] == ["out", "out/checkpoint-1", "out/checkpoint-2"]
    for card in cards:
        text = card.read_text(encoding="utf-8")
        assert text.startswith("---\nlibrary_name: peft\n")
        assert "`llm-jepa push` publishes this directory" in text
        assert str(inputs) not in text


def test_evaluation_takes_the_test_split(inputs):
    trainer = train(read(inputs, eval_strategy="steps", eval_steps=2))
    assert len(trainer.eval_dataset) == 2
    assert trainer.state.log_history[-2]["eval_loss"] > 0


def test_from_scratch_starts_from_random_weights(inputs):
    """With a learning rate of 0, the saved weights are the random ones of the seed, not the model's."""
    train(read(inputs, from_scratch=True, learning_rate=0, output_dir="one"))
    train(read(inputs, from_scratch=True, learning_rate=0, output_dir="same"))
    assert_same_weights(Path("one"), Path("same"))
    name = "model.embed_tokens.weight"
    assert not torch.equal(weights(Path("one"))[name], weights(inputs / "model")[name])


# --- nothing is lost ---


def test_an_output_directory_of_other_settings_is_refused_and_untouched(inputs):
    train(read(inputs))
    before = snapshot(Path("out"))
    with pytest.raises(ValueError, match=r"`learning_rate` is 0\.001 there and 0.5 here") as error:
        train(read(inputs, learning_rate=0.5, warmup_steps=1))
    assert "`warmup_steps` is not given there and 1.0 here" in str(error.value)
    assert "Nothing was overwritten" in str(error.value)
    assert snapshot(Path("out")) == before


def test_a_second_run_in_the_same_directory_is_refused(inputs):
    with output_directory_lock(Path("out"), True):
        with pytest.raises(ValueError, match="Another run is training in `output_dir"):
            train(read(inputs, output_dir="out"))
        assert [path.name for path in Path("out").iterdir()] == ["run.lock"]
    train(read(inputs, output_dir="out"))


def test_a_checkpoint_of_another_recipe_is_refused_and_nothing_is_written(inputs, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    train(read(inputs, save_strategy="steps", save_steps=1))
    (checkpoint,) = list(Path("out").glob("checkpoint-*"))[:1]
    given = {
        "save_strategy": "steps",
        "save_steps": 1,
        "output_dir": "other",
        "resume_from_checkpoint": f"~/{checkpoint}",
    }
    with pytest.raises(ValueError, match=r"run with other settings: `learning_rate` is 0\.001 there and 0.5 here"):
        train(read(inputs, **given, learning_rate=0.5))
    assert not Path("other").exists()
    train(read(inputs, **given))
    assert (Path("other") / "trainer_state.json").is_file()


def test_a_complete_run_is_not_run_again(inputs, caplog):
    train(read(inputs))
    before = snapshot(Path("out"))
    caplog.set_level("INFO", logger="llm_jepa")
    assert train(read(inputs, logging_steps=2)) is None
    assert "already holds the complete run" in caplog.text
    assert snapshot(Path("out")) == before


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_start_sees_what_another_did_while_it_built_its_trainer(inputs, is_complete, monkeypatch, caplog):
    """The other ends the run, or is killed before the model is saved; its checkpoints are then resumed from."""
    path = write(inputs, save_strategy="steps", save_steps=1)

    started, left_by_the_other = [], {}

    def build(recipe, callbacks):
        started.append(recipe)
        if len(started) == 1:
            train(parse_recipe([str(path)]))
            left_by_the_other.update(snapshot(Path("out")))
            if not is_complete:
                Path("out/trainer_state.json").unlink()
        return build_any_trainer(recipe, callbacks)

    monkeypatch.setattr("llm_jepa.train.build_any_trainer", build)
    caplog.set_level("INFO", logger="llm_jepa")
    trainer = train(parse_recipe([str(path)]))
    assert len(started) == 2
    if is_complete:
        assert trainer is None
        assert snapshot(Path("out")) == left_by_the_other
    else:
        assert f"Resuming from {Path.cwd() / 'out/checkpoint-2'}." in caplog.text


def test_a_run_cannot_be_taken_up_from_weights_alone(inputs):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    train(read(inputs, **settings))
    Path("out/trainer_state.json").unlink()
    with pytest.raises(ValueError, match="without the optimizer"):
        train(read(inputs, **settings))


def test_a_checkpoint_that_was_asked_for_must_be_one(inputs):
    with pytest.raises(ValueError, match="`resume_from_checkpoint: nowhere` is no checkpoint, or not whole"):
        train(read(inputs, resume_from_checkpoint="nowhere"))


# --- how a program ends ---


def test_a_mistake_ends_in_one_line(inputs, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(write(inputs)), "--learnin_rate", "1"])
    assert ended.value.code == MISTAKE_STATUS
    message = "command line: unknown key `learnin_rate`. Did you mean `learning_rate`?"
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_peft": True, "lora_target_modules": ["q_prj"]}, r"Did you mean `q_proj`\?"),
        ({"dataset_name": "rows.parquet", "source_column": "sorce"}, "The data set has no column 'sorce'"),
    ],
)
def test_what_names_nothing_is_refused_before_the_weights_are_loaded(inputs, monkeypatch, changes, message):
    def load(*_, **__):
        raise AssertionError("the weights are loaded")

    monkeypatch.setattr("trl.trainer.sft_trainer.create_model_from_path", load)
    Dataset.from_list(PAIRS).to_parquet("rows.parquet")
    with pytest.raises(ValueError, match=message):
        train(read(inputs, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim_args": "nonsense"}, "`optim` with `optim_args` cannot be used: "),
        ({"lr_scheduler_kwargs": {"nonsense": 1}}, "`lr_scheduler_type` with `lr_scheduler_kwargs` cannot be used: "),
        ({"accelerator_config": {"nonsense": 1}}, "recipe.yaml: .*nonsense"),
    ],
)
def test_arguments_that_a_library_does_not_take_are_named(inputs, changes, message):
    with pytest.raises(ValueError, match=message):
        train(read(inputs, **changes))


def test_a_row_that_cannot_be_used_is_named_by_its_line(inputs):
    """Of a slice of the file, in which one line is blank; also when other processes read the rows."""
    rows = [*PAIRS[:3], {"source": "empty", "target": " "}]
    Path("rows.jsonl").write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"^`rows.jsonl`, line 5: the target is empty\.$"):
        train(read(inputs, dataset_name="rows.jsonl", dataset_train_split="train[2:]", dataset_num_proc=2))


def test_training_ends_with_the_command_that_scores_the_run(inputs, capsys):
    """With the overrides, which name the run too; what was saved is said once."""
    recipe = str(write(inputs))
    assert cli.main(["train", recipe, "--output_dir", "my run", "--max_steps", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"To score it: llm-jepa eval {recipe} --output_dir 'my run' --max_steps 1"
    assert (said.err + said.out).count("Model saved to my run.") == 1


def test_training_ends_without_a_command_that_would_fail(inputs, capsys):
    """A file is one split, and the default one to score is another."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    assert cli.main(["train", str(write(inputs, dataset_name="rows.jsonl", max_steps=1))]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("`rows.jsonl` has no split `test`, only `train`.")
    assert "llm-jepa eval" not in last


def test_an_error_of_another_library_keeps_its_traceback():
    with pytest.raises(ValueError, match="Expecting value"), entry_point():
        json.loads("nonsense")


def test_what_only_the_user_can_change_of_the_machine_ends_in_one_line(tmp_path, capsys):
    """Also if another library raises it. A missing file keeps its traceback: it may be a bug."""
    with pytest.raises(SystemExit) as ended, entry_point():
        tmp_path.joinpath("x" * 300).read_text()
    assert ended.value.code == MISTAKE_STATUS
    assert capsys.readouterr().err == f"error: `{tmp_path / ('x' * 300)}`: File name too long.\n"
    with pytest.raises(SystemExit), entry_point():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert capsys.readouterr().err == "error: No space left on device.\n"
    with pytest.raises(FileNotFoundError), entry_point():
        tmp_path.joinpath("nothing").read_text()


def test_ctrl_c_ends_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended, entry_point():
        raise KeyboardInterrupt
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_a_librarys_own_log_is_not_written_twice():
    """`huggingface_hub` has its own log handler; the package logs to standard error."""
    code = (
        "import logging\nfrom huggingface_hub.utils import logging as hub_logging\n"
        "from llm_jepa.entry import entry_point\n"
        "with entry_point():\n    hub_logging.get_logger('huggingface_hub').warning('theirs')\n"
        "    logging.getLogger('llm_jepa.train').info('ours')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert sorted(done.stderr.splitlines()) == ["ours", "theirs"]


# --- launchers ---


def test_processes_that_do_not_work_together_are_refused(inputs, monkeypatch):
    """Both failures of which accelerate says nothing: processes in no group, and DeepSpeed asked for but not used."""
    accelerator = train(read(inputs)).accelerator
    with monkeypatch.context() as environment:
        environment.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="started 2 processes that do not work together: each sees 1"):
            check_processes(accelerator.num_processes)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="asks for DEEPSPEED, but training would run as NO"):
        check_distributed_type(accelerator)


def test_the_launcher_settings_for_gpus_are_the_tested_ones():
    """multi-gpu.yaml is the configuration of the two-process test, except for the device."""
    gpu = yaml.safe_load((REPOSITORY / "recipes" / "accelerate" / "multi-gpu.yaml").read_text())
    cpu = yaml.safe_load((REPOSITORY / "tests" / "cpu-2.yaml").read_text())
    assert gpu.pop("gpu_ids") == "all"
    assert cpu.pop("use_cpu") is True
    assert gpu == cpu


def test_a_checkpoint_of_other_processes_is_refused(inputs, monkeypatch):
    """A checkpoint holds the random state of each process."""
    path = write(inputs, save_strategy="steps", save_steps=2)
    train(parse_recipe([str(path)]))
    checkpoint = Path.cwd() / "out" / "checkpoint-2"
    settings = read_settings(path)
    assert checkpoint_to_resume(settings) == str(checkpoint)
    with monkeypatch.context() as environment:
        environment.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="was saved by 1 processes, and 2 are to resume from it"):
            check_resume(settings)
    for rank in range(4):
        (checkpoint / f"rng_state_{rank}.pth").touch()
    with pytest.raises(ValueError, match="was saved by 4 processes, and 1 are to resume from it"):
        check_resume(settings | {"resume_from_checkpoint": str(checkpoint)})


def test_more_processes_than_rows_are_refused():
    refuse_fewer_rows_than_processes(3, Dataset.from_list([{"text": "a"}] * 3))
    refuse_fewer_rows_than_processes(4, Dataset.from_list([{"text": "a"}]).to_iterable_dataset())
    with pytest.raises(ValueError, match="have 3 rows for 4 processes"):
        refuse_fewer_rows_than_processes(4, Dataset.from_list([{"text": "a"}] * 3))


def test_a_deepspeed_configuration_in_conflict_with_the_recipe_is_refused(inputs):
    """`auto` and an equal value are no conflict."""
    args = read(inputs, gradient_accumulation_steps=2).training
    for steps in ("auto", 2):
        args.deepspeed_plugin = DeepSpeedPlugin(zero_stage=2, gradient_accumulation_steps=steps)
        check_deepspeed(args)
    args.deepspeed_plugin = DeepSpeedPlugin(zero_stage=2, gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` is 4 in the DeepSpeed configuration and 2 in"):
        check_deepspeed(args)


@pytest.mark.parametrize(
    ("options", "configuration", "refused"),
    [
        ({}, {"optimizer": {"type": "AdamW"}}, None),
        ({"predictor_learning_rate": 0.1}, {}, None),
        ({"predictor_learning_rate": 0.1}, {"optimizer": {"type": "AdamW"}}, "predictor_learning_rate: 0.1.* `optimi"),
        ({"predictor_learning_rate": 0.1}, {"scheduler": {"type": "WarmupLR"}}, "has no effect: `scheduler` of"),
        ({"predictor_learning_rate": 0.1}, {"scheduler": {"type": "WarmupCosineLR"}}, None),
        ({"predictor_learning_rate": 0.1, "jepa_weight": 0.0}, {"optimizer": {"type": "AdamW"}}, None),
    ],
)
def test_a_learning_rate_that_deepspeeds_optimizer_or_schedule_ignores_is_refused(
    options, configuration, refused, inputs
):
    args = read(inputs, **options).training
    args.deepspeed_plugin = DeepSpeedPlugin(hf_ds_config={"zero_optimization": {"stage": 2}, **configuration})
    if refused is None:
        check_deepspeed(args)
        return
    with pytest.raises(ValueError, match=refused):
        check_deepspeed(args)
