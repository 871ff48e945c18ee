"""`llm-jepa export`: what it writes and says, and what it refuses before torch is imported."""

import json
import shlex
import sys

import pytest
import yaml

from llm_jepa.cli import main
from llm_jepa.inference.export_checks import check_export
from llm_jepa.models.latent_predictor import facts_of, write_latent_predictor
from tests.cli.test_cli import ran
from tests.inference.drafters import untrained_dynamics
from tests.inference.test_answer_command import OPTIONS, write_predictor
from tests.inference.test_drafter_export import save_run
from tests.models.test_merging import save_adapter
from tests.tiny import save_tiny_model, tiny_llama, tiny_tokenizer


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A run that encodes views, one with a decoder layer, and an adapter with one."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "pair")
    write_predictor(tmp_path / "pair")
    save_run(tmp_path / "drafts", tiny_llama(), untrained_dynamics(tiny_llama(), "decoder_layer"))
    return tmp_path


def test_a_drafter_comes_with_the_command_that_serves_it(place, capsys):
    assert main(["export", "drafts", "--to", "vllm", "--output_dir", "drafter"]) == 0
    first, command = capsys.readouterr().out.splitlines()
    assert first == "Drafter: drafter"
    assert sorted(path.name for path in (place / "drafter").iterdir()) == ["config.json", "model.safetensors"]
    words = shlex.split(command)
    assert words[:4] == ["vllm", "serve", "drafts", "--speculative-config"]
    assert json.loads(words[4]) == {"method": "eagle", "model": "drafter", "num_speculative_tokens": 2}
    assert oct((place / "drafter" / "model.safetensors").stat().st_mode)[-3:] == "644"


def test_an_adapter_is_to_be_merged_before_it_is_served(place, capsys):
    adapter = save_adapter(place / "adapter", "drafts")
    (place / "drafts" / "latent_predictor").rename(adapter / "latent_predictor")
    assert main(["export", "adapter", "--to", "vllm", "--output_dir", "drafter"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "llm-jepa merge adapter --output_dir adapter-merged"


def test_an_embedder_comes_with_the_line_that_loads_it(place, capsys):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    assert main(["export", "pair", "--to", "sentence-transformers", "--output_dir", "embedder"]) == 0
    first, line = capsys.readouterr().out.splitlines()
    assert first == "Embedder: embedder"
    names = {"SentenceTransformer": sentence_transformers.SentenceTransformer, "texts": ["lines with a number"]}
    assert eval(line, names).shape == (1, 32)


def test_without_sentence_transformers_it_is_said_how_to_install_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'llm-jepa\[sentence-transformers\]'"):
        check_export(place / "pair", "sentence-transformers", place / "new")
    check_export(place / "drafts", "vllm", place / "new")


def write_facts(directory, objectives, **options):
    save_tiny_model(directory)
    facts = facts_of(tiny_llama(), tiny_tokenizer(), objectives, options)
    write_latent_predictor(directory, facts, {})


def test_what_cannot_be_exported_is_refused_in_one_line_without_a_library_that_takes_seconds(place):
    save_tiny_model(place / "plain")
    write_facts(place / "mlp", ("next_latent",), latent_predictor="mlp")
    write_facts(place / "mean", ("pair",), **OPTIONS | {"jepa_readout": "mean"})
    write_facts(place / "early", ("pair",), **OPTIONS | {"target_layer": 0.5})
    adapter = save_adapter(place / "nf4", "pair")
    (place / "pair" / "latent_predictor").rename(adapter / "latent_predictor")
    settings = {"model_name_or_path": "pair", "dataset_name": "d", "output_dir": "nf4", "load_in_4bit": True}
    (adapter / "recipe.yaml").write_text(yaml.safe_dump(settings))
    save_tiny_model(place / "gptq")
    config = json.loads((place / "gptq" / "config.json").read_text())
    (place / "gptq" / "config.json").write_text(json.dumps(config | {"quantization_config": {}}))
    (place / "drafts" / "latent_predictor").rename(place / "gptq" / "latent_predictor")
    vllm, embedder = ["--to", "vllm"], ["--to", "sentence-transformers"]
    wrong = {
        "argument --to: invalid choice: 'gguf' (choose from": ["pair", "--to", "gguf"],
        "`absent` is no directory": ["absent", *vllm],
        "The run has no latent predictor": ["plain", *embedder],
        "is of the form mlp; vLLM drafts with decoder layers alone": ["mlp", *vllm],
        "is of pair; vLLM drafts with decoder layers alone": ["mean", *vllm],
        "is of next_latent, which encodes no views": ["mlp", *embedder],
        "The run has `jepa_readout: mean`; sentence-transformers reads": ["mean", *embedder],
        "Train with `target_layer: 1`, or encode with `LatentEncoder`": ["early", *embedder],
        "The base of `nf4` is quantised. Merge it first, `llm-jepa merge nf4": ["nf4", *embedder],
        "The base of `gptq` is quantised": ["gptq", *vllm],
        "`output_dir: plain` is not empty": ["mean", *vllm, "--output_dir", "plain"],
    }  # fmt: skip
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    lines = (
        ["export", *arguments, *([] if "--output_dir" in arguments else ["--output_dir", "new"])]
        for arguments in wrong.values()
    )
    printed = ran(*lines, directory=place)
    assert printed.count("status 2") == len(wrong)
    assert "imported:\n" in printed
    for message in wrong:
        assert message in printed, (message, printed)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
