"""What `llm-jepa push` publishes of a VL-JEPA run, through the real client, on a Hub on loopback."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import yaml
from huggingface_hub import snapshot_download

from llm_jepa.cli import main
from llm_jepa.hub.push import push
from llm_jepa.train import train
from llm_jepa.vision.model import VLJEPAModel
from llm_jepa.vision.recipe import parse_any_recipe
from tests.hub.hub_run import card, refusal
from tests.hub.hub_server import TOKEN
from tests.vision.tiny_parts import picture, saved
from tests.vision.tiny_runs import tiny_run

REPO = "team/vl"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PUSHED = {
    ".gitattributes", ".llm-jepa.json", "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    "recipe.yaml", *(f"{side}_tokenizer/{name}" for side in ("question", "answer") for name in TOKENIZER),
}  # fmt: skip
DECODER = {
    f"text_decoder/{name}"
    for name in ("config.json", "generation_config.json", "model.safetensors", "prefix.safetensors",
                 "text_decoder.json", *TOKENIZER)
}  # fmt: skip
RECALLS = {"recall_at_1": 0.5, "recall_at_5": 1.0, "recall_at_10": 1.0, "mean_reciprocal_rank": 0.7}


@pytest.fixture
def run(tmp_path) -> Path:
    """A run as `train` and `eval` leave it, with all that must not be published beside it."""
    run = tiny_run(tmp_path)
    scores = {
        "checkpoint": "tuned", "dataset": str(tmp_path / "rows.jsonl"), "split": "train", "rows": 12,
        "date": "2026-11-27", "chance": 0.25, "image_to_answer": RECALLS, "answer_to_image": RECALLS,
        "scores": {"accuracy": {"hits": 9, "count": 12}, "most_frequent": {"hits": 2, "count": 12}},
    }  # fmt: skip
    (run / "scores-tuned.json").write_text(json.dumps(scores))
    (run / "predictions-tuned.jsonl").write_text("{}")
    (run / "training_args.bin").write_bytes(b"arguments")
    (run / "checkpoint-3").mkdir()
    (run / "checkpoint-3" / "optimizer.pt").write_bytes(b"optimizer")
    return run


def test_a_run_is_published_with_a_card_and_answers_as_before_when_it_is_pulled(hub, run, tmp_path, monkeypatch):
    """Without a name of this machine; the parts on the Hub are named with their licences."""
    hub.add("team/encoder", {"config.json": b"{}", "README.md": b"---\nlicense: apache-2.0\n---\n"})
    recipe = yaml.safe_load((run / "recipe.yaml").read_text()) | {"vision_encoder": "team/encoder"}
    recipe["feature_cache"] = "/srv/mira/features"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    environment = json.loads((run / "environment.json").read_text())
    environment["local"].remove("vision_encoder")
    (run / "environment.json").write_text(json.dumps(environment))
    assert main(["push", str(run), "--repo_id", REPO]) == 0
    repository = hub.model(REPO)
    assert repository.private
    assert set(repository.files) == PUSHED
    for name, content in repository.files.items():
        for secret in (TOKEN, "mira", str(tmp_path), str(Path(saved("qwen3")).parent)):
            assert secret.encode() not in content, (name, secret)
    published = yaml.safe_load(repository.files["recipe.yaml"])
    assert published["vision_encoder"] == "team/encoder"
    assert published["language_model"] == json.loads(repository.files["config.json"])["part_names"]["language_model"]
    assert published["language_model"] == "qwen3"
    text, data = card(repository).text, card(repository).data
    assert data.pipeline_tag == "visual-question-answering"
    assert data.base_model == ["team/encoder"]
    assert data.eval_results[0].metric_value == 75.0
    assert "| encodes the picture | [team/encoder](/team/encoder) | apache-2.0 |" in text
    assert "| encodes answers | `bert` | unknown |" in text
    assert "| accuracy | 75.0 (46.8 to 91.1) |" in text
    assert "| image to answer, recall at 1, 5, 10 | 50.0, 100.0, 100.0 |" in text
    assert f'VLJEPAModel.from_pretrained("{REPO}")' in text
    assert "| `jepa_loss` | `info_nce_symmetric` |" in text
    assert "Text decoder" not in text
    pulled = VLJEPAModel.from_pretrained(snapshot_download(REPO)).eval()
    inputs = [picture("red")], ["which one?"]
    assert torch.equal(pulled.predict(*inputs), VLJEPAModel.from_pretrained(run).predict(*inputs))
    monkeypatch.chdir(tmp_path)
    assert torch.equal(VLJEPAModel.from_pretrained(REPO).predict(*inputs), pulled.predict(*inputs))


def test_a_text_decoder_goes_along_and_is_deleted_there_when_it_is_gone_here(hub, run, capsys):
    assert main(["train-decoder", str(run), "--num_steps=2", "--max_rows=4"]) == 0
    push(run, REPO)
    repository = hub.model(REPO)
    assert set(repository.files) == PUSHED | DECODER
    facts = json.loads(repository.files["text_decoder/text_decoder.json"])
    assert facts["options"]["language_model"] == "qwen3"
    text = card(repository).text
    assert "on the embeddings of 12 answers in 2 steps" in text
    assert "| text of the prediction | 0.0 (0.0 to " in text
    embedding_NE = torch.randn(2, 12)
    expected = VLJEPAModel.from_pretrained(run).decode(embedding_NE)
    for place in (REPO, snapshot_download(REPO)):
        assert VLJEPAModel.from_pretrained(place).decode(embedding_NE) == expected
    facts_path = run / "text_decoder" / "text_decoder.json"
    facts_path.write_text(json.dumps(json.loads(facts_path.read_text()) | {"checkpoint": "another"}))
    assert "was trained on other weights than those of the run" in refusal(hub, capsys, run, "--repo_id", REPO)
    for path in (run / "text_decoder").iterdir():
        path.unlink()
    push(run, REPO)
    assert set(hub.model(REPO).files) == PUSHED


def test_push_to_hub_publishes_the_same_at_the_end_of_training(hub, tmp_path):
    """One commit, no checkpoint, no token in a file of the run. A name that is not writable is told before."""
    settings = yaml.safe_load((tiny_run(tmp_path) / "recipe.yaml").read_text()) | {
        "output_dir": str(tmp_path / "trained"), "max_steps": 1, "save_steps": 1, "per_device_train_batch_size": 6,
        "disable_tqdm": True, "push_to_hub": True, "hub_model_id": REPO,
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    argv = [str(path), "--hub_token", TOKEN]
    with pytest.raises(ValueError, match="others/vl: Your token may not write there"):
        train(parse_any_recipe([*argv, "--hub_model_id", "others/vl"]))
    assert not (tmp_path / "trained").exists()
    train(parse_any_recipe(argv))
    repository = hub.model(REPO)
    assert repository.private
    assert len(repository.commits) == 2
    assert set(repository.files) == PUSHED
    assert (tmp_path / "trained" / "checkpoint-1").is_dir()
    for file in (tmp_path / "trained").rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    pushed = dict(repository.files)
    assert main(["push", str(tmp_path / "trained"), "--repo_id", REPO]) == 0
    assert hub.model(REPO).files == pushed


def test_the_card_of_a_blind_run_retrieves_by_questions(hub, run):
    (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text() + "inputs: question\n")
    push(run, REPO)
    text = card(hub.model(REPO)).text
    assert "| question to answer, recall at 1, 5, 10 | 50.0, 100.0, 100.0 |" in text
    assert "| answer to question, recall at 1, 5, 10 |" in text


def test_models_of_text_and_of_pictures_do_not_share_a_repository(hub, run, capsys):
    hub.add("team/text", {"config.json": b"{}", "generation_config.json": b"{}"}, private=True)
    assert "holds other weights (generation_config.json)" in refusal(hub, capsys, run, "--repo_id", "team/text")


def test_a_control_is_not_published(hub, run, capsys):
    config = json.loads((run / "config.json").read_text()) | {"model_type": "token_vlm"}
    (run / "config.json").write_text(json.dumps(config))
    assert "is a token VLM, a control" in refusal(hub, capsys, run, "--repo_id", REPO)


def test_a_model_of_a_revision_reads_the_processor_of_that_revision_and_offline_what_was_fetched(
    hub, run, tmp_path, monkeypatch
):
    main(["push", str(run), "--repo_id", REPO])
    repository, inputs = hub.model(REPO), ([picture("red")], ["which one?"])
    first = repository.sha_of(len(repository.commits) - 1)
    content = json.loads(repository.files["preprocessor_config.json"]) | {"image_mean": [0.1] * 3}
    repository.commits.append(repository.files | {"preprocessor_config.json": json.dumps(content).encode()})
    monkeypatch.chdir(tmp_path / "..")
    expected = VLJEPAModel.from_pretrained(run).predict(*inputs)
    assert torch.equal(VLJEPAModel.from_pretrained(REPO, revision=first).predict(*inputs), expected)
    assert not torch.equal(VLJEPAModel.from_pretrained(REPO).predict(*inputs), expected)
    snapshot_download(REPO)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not torch.equal(VLJEPAModel.from_pretrained(REPO).predict(*inputs), expected)
