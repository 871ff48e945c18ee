"""`push_to_hub` in training, and the way from training to a model that others load, with a Hub on loopback."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.cli import main
from llm_jepa.hub.push import push
from llm_jepa.models.latent_predictor import PREDICTOR_FILES
from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.reading import read_settings
from llm_jepa.train import train
from tests.evaluation.tiny_runs import save_recipe
from tests.hub.hub_run import PUSHED, card
from tests.hub.hub_server import BASE, DATA, TOKEN, Fault, running_hub
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

ROOT = Path(__file__).parents[2]


def training_recipe(directory: Path, **settings) -> Path:
    save_tiny_model(directory / "model")
    sampling = {"do_sample": False, "temperature": 0.6, "eos_token_id": 1}  # which transformers refuses to write
    (directory / "model" / "generation_config.json").write_text(json.dumps(sampling))
    (directory / "data").mkdir()
    (directory / "data" / "train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    options = {"use_peft": True, "max_steps": 1, "save_steps": 1, "disable_tqdm": True, "push_to_hub": True}
    return save_recipe(directory, **options | {"hub_model_id": "team/trained"} | settings)


def test_push_to_hub_publishes_the_same_at_the_end_of_training(hub, tmp_path):
    recipe = training_recipe(tmp_path, use_peft=False)
    train(parse_recipe([str(recipe)]))
    repository = hub.model("team/trained")
    assert repository.private
    assert len(repository.commits) == 2
    pushed = dict(repository.files)
    assert set(pushed) == PUSHED - {"adapter_config.json", "adapter_model.safetensors"} | {
        "config.json", "generation_config.json", "model.safetensors", "prompts.json", *PREDICTOR_FILES,
    }  # fmt: skip
    assert not [name for name, content in pushed.items() if str(tmp_path).encode() in content]
    assert (tmp_path / "run" / "checkpoint-1").is_dir()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["local"] == ["model_name_or_path", "dataset_name"]  # elsewhere they could pass for Hub ids
    push(tmp_path / "run", "team/trained")
    assert hub.model("team/trained").files == pushed


def test_what_cannot_be_published_is_said_before_training(hub, tmp_path):
    recipe = training_recipe(tmp_path)
    with pytest.raises(ValueError, match=r"base is .*, which is not on the Hub"):
        train(parse_recipe([str(recipe)]))
    with pytest.raises(ValueError, match=r"others/trained: Your token may not write there"):
        train(parse_recipe([str(recipe), "--hub_model_id", "others/trained"]))
    assert not (tmp_path / "run").exists()


def test_a_failing_publication_leaves_a_complete_run_and_says_how_to_publish_it(hub, tmp_path):
    recipe = training_recipe(tmp_path, use_peft=False)
    hub.faults.append(Fault("/commit/", 403))
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=f"Publish it with `llm-jepa push {run} --repo_id team/trained`"):
        train(parse_recipe([str(recipe)]))
    assert (run / "trainer_state.json").is_file()
    hub.faults.clear()
    assert main(["push", str(run), "--repo_id", "team/trained"]) == 0


def test_the_same_command_again_publishes_a_run_that_is_complete(hub, tmp_path):
    """And once more changes nothing; without `push_to_hub` there is nothing to do."""
    recipe = training_recipe(tmp_path, use_peft=False)
    hub.faults.append(Fault("/commit/", 500))
    with pytest.raises(ValueError, match="Run the same command again"):
        train(parse_recipe([str(recipe)]))
    hub.faults.clear()
    weights = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    for _ in range(2):
        assert train(parse_recipe([str(recipe)])) is None
        assert len(hub.model("team/trained").commits) == 2
    assert hub.model("team/trained").files["recipe.yaml"]
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == weights
    hub.calls.clear()
    assert train(parse_recipe([str(recipe), "--push_to_hub", "false"])) is None
    assert hub.calls == []


def test_a_trainer_made_in_python_publishes_in_the_same_way(hub, tmp_path):
    """`training_args.bin`, TRL's card and checkpoints stay here."""
    trainer = JEPATrainer(
        tiny_llama(),
        JEPAConfig(
            str(tmp_path / "mine"), source_column="source", target_column="target", max_steps=1, bf16=False,
            report_to="none", disable_tqdm=True, push_to_hub=True, hub_private_repo=False, jepa_weight=0.5,
        ),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    trainer.train()
    trainer.save_model()
    assert "models/team/mine" not in hub.repositories  # where transformers would have published already
    for idle in ({"blocking": False}, {"revision": "v1"}, {"tags": ["mine"]}):
        with pytest.raises(ValueError, match=f"`{next(iter(idle))}` has no effect"):
            trainer.push_to_hub(**idle)
    assert "models/team/mine" not in hub.repositories
    trainer.push_to_hub("First", dataset_name=DATA)
    repository = hub.model("team/mine")
    assert not repository.private
    assert set(repository.files) == {
        ".gitattributes", ".llm-jepa.json", "README.md", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", *PREDICTOR_FILES,
    }  # fmt: skip
    published = card(repository)
    assert "| optimizer steps | 1 |" in published.text
    assert "| `jepa_weight` | `0.5` |" in published.text
    assert "recipe.yaml" not in published.text
    assert published.data.datasets == [DATA]
    assert repository.messages == ["First"]


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints"])
def test_checkpoints_are_never_published(tmp_path, strategy):
    recipe = training_recipe(tmp_path, hub_strategy=strategy)
    with pytest.raises(ValueError, match=f"`hub_strategy` is '{strategy}'; it must be end. .*no checkpoint"):
        parse_recipe([str(recipe)])
    with pytest.raises(ValueError, match=f"`hub_strategy` is '{strategy}'; allowed are 'end'. .*no checkpoint"):
        JEPAConfig("out", hub_strategy=strategy)


# --- from training to generation


def documented_walk() -> list[list[str]]:
    page = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", page, flags=re.DOTALL).group(1)
    lines = [line.partition("  #")[0] for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("llm-jepa ")]


def test_the_documented_walk_ends_with_the_text_that_the_run_writes(tmp_path):
    """train -> eval -> merge -> push -> pull -> generate, in one process of its own; nothing local is left to help."""
    base = Path(save_tiny_model(tmp_path / "base"))
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    save_recipe(
        tmp_path, model_name_or_path=BASE, dataset_name="data", output_dir="outputs/mine", use_peft=True,
        lora_target_modules="all-linear", learning_rate=0.1, max_steps=2, disable_tqdm=True,
    )  # fmt: skip
    commands = documented_walk()
    assert [command[0] for command in commands] == ["train", "eval", "merge", "push", "push"]
    adapter, model = (command[command.index("--repo_id") + 1] for command in commands[-2:])
    walk = {"commands": commands, "adapter": adapter, "model": model, "prompt": PAIRS[0]["source"]}
    with running_hub() as hub:
        hub.writable.add(adapter.split("/")[0])
        hub.add(BASE, {path.name: path.read_bytes() for path in base.iterdir()})
        shutil.rmtree(base)
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home-of-mira"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(ROOT),
        }
        program = [sys.executable, "-m", "tests.hub.hub_walk", json.dumps(walk)]
        done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        snapshot = Path(result["snapshot"])
        files = [path for path in snapshot.rglob("*") if path.is_file()]
        pulled = {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in files}
        assert pulled == hub.model(adapter).files
        texts = {**hub.model(adapter).files, **hub.model(model).files}
        assert not [name for name, content in texts.items() if b"mira" in content or str(tmp_path).encode() in content]
        assert read_settings(Path(result["snapshot"]) / "recipe.yaml")["model_name_or_path"] == BASE
        assert "## Results" in card(hub.model(model)).text
    predicted = json.loads((tmp_path / "outputs/mine/predictions-tuned.jsonl").read_text().splitlines()[0])
    assert result["adapter"] == result["model"] == predicted["prediction"]
