"""A run to publish, and checks of a push's result, for the tests of the Hub."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from tests.hub.hub_server import HubServer, Repository
from tests.models.test_merging import save_adapter
from tests.tiny import PAIRS, save_tiny_model

REPO = "team/adapter"
PUSHED = {
    ".gitattributes", ".llm-jepa.json", "README.md", "adapter_config.json", "adapter_model.safetensors",
    "chat_template.jinja", "recipe.yaml", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
SCORES = {
    "task": "regex", "dataset_config": None, "split": "test", "rows": 8, "max_new_tokens": 6,
    "backend": "transformers", "date": "2026-11-23",
}  # fmt: skip


def make_run(directory: Path) -> Path:
    """A run as `train` and `eval` leave it, made by hand, with all that must not be published beside it."""
    run = save_adapter(directory / "run", save_tiny_model(directory / "model"))
    settings = {
        "model_name_or_path": str(directory / "model"),
        "dataset_name": str(directory / "secret-project" / "data"),
        "output_dir": str(run),
        "source_column": "source",
        "target_column": "target",
        "task": "regex",
        "chat_template_path": str(directory / "chat.jinja"),
        "hub_model_id": "mira/elsewhere",
        "run_name": "mira-1",
        "jepa_weight": 0.5,
        "learning_rate": 0.01,
        "use_peft": True,
        "bf16": False,
    }
    (run / "recipe.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    state = {"global_step": 7, "epoch": 1.5, "log_history": [{"num_tokens": 1234.0, "train_runtime": 61.0, "step": 7}]}
    (run / "trainer_state.json").write_text(json.dumps(state))
    environment = {
        "versions": {"trl": "1.16.0"},
        "commit": "c0ffee",
        "base_origin": "From a package.",
        "device": "NVIDIA H100",
        "num_processes": 2,
    }
    (run / "environment.json").write_text(json.dumps(environment))
    for checkpoint, hits in (("base", 1), ("tuned", 3)):
        names = ("strict", "prefix", "contains", "stopped", "capped", "equivalent", "equivalent_nontrivial")
        rates = {name: {"hits": hits, "count": 8} for name in names}
        scores = {"checkpoint": checkpoint, "dataset": settings["dataset_name"], **SCORES, "scores": rates}
        (run / f"scores-{checkpoint}.json").write_text(json.dumps(scores))
        (run / f"predictions-{checkpoint}.jsonl").write_text(json.dumps(PAIRS[0]))
    (run / "training_args.bin").write_bytes(str(run).encode())
    (run / "checkpoint-7").mkdir()
    (run / "checkpoint-7" / "optimizer.pt").write_bytes(b"optimizer")
    return run


def card(repository: Repository) -> ModelCard:
    return ModelCard(repository.files["README.md"].decode())


def said(caplog) -> list[str]:
    """What pushes have logged."""
    return [record.getMessage() for record in caplog.records if record.name == "llm_jepa.hub.push"]


def refusal(hub: HubServer, capsys, *arguments) -> str:
    """The one line that a push ends with; no repository has been touched."""
    before = {name: list(repository.commits) for name, repository in hub.repositories.items()}
    with pytest.raises(SystemExit) as ended:
        main(["push", *map(str, arguments)])
    assert ended.value.code == MISTAKE_STATUS
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert {name: hub.repositories[name].commits for name in before} == before
    new = [repository for name, repository in hub.repositories.items() if name not in before]
    assert all(set(repository.files) == {".gitattributes"} for repository in new)
    return error
