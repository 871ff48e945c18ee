"""What `llm-jepa push` publishes, through the real huggingface_hub client, on a Hub on loopback."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

from llm_jepa.hub.card_editing import SECTION_BEGIN, SECTION_END
from llm_jepa.hub.push import push
from llm_jepa.models.adapters import find_adapter
from llm_jepa.models.latent_predictor import PREDICTOR_FILES, predictor_digest, write_latent_predictor
from llm_jepa.recipe import parse_recipe
from llm_jepa.runs.record import has_plain_prompts
from tests.hub.hub_run import PUSHED, REPO, card, refusal, said
from tests.hub.hub_server import BASE, DATA, TOKEN
from tests.models.test_latent_predictor import facts as tiny_facts
from tests.models.test_merging import save_adapter
from tests.tiny import save_tiny_model


def test_a_push_is_one_private_commit_of_what_others_need(hub, run):
    done = push(run, REPO, base_model=BASE)
    repository = hub.model(REPO)
    assert repository.private
    assert len(repository.commits) == 2  # the Hub's own, and this one
    assert set(repository.files) == PUSHED
    assert {*done.files, ".gitattributes"} == PUSHED
    for name in ("adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert repository.files[name] == (run / name).read_bytes()
    assert json.loads(repository.files["adapter_config.json"])["base_model_name_or_path"] == BASE


def test_what_is_pulled_is_what_was_pushed(hub, run, tmp_path):
    push(run, REPO, base_model=BASE)
    pulled = Path(snapshot_download(REPO))
    assert {path.name: path.read_bytes() for path in pulled.iterdir()} == hub.model(REPO).files
    again = parse_recipe([str(pulled / "recipe.yaml")])
    assert again.training.jepa_weight == 0.5


def test_a_latent_predictor_is_published_and_explained_unless_it_is_left_out(hub, run, original, tmp_path):
    """It names the base that the push names, and not the directory that it was loaded from."""
    base = str(original.parent / "model")
    write_latent_predictor(run, dataclasses.replace(tiny_facts(), base_name_or_path=base), {})
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED | {*PREDICTOR_FILES}
    assert json.loads(hub.model(REPO).files[PREDICTOR_FILES[0]])["base_name_or_path"] == BASE
    assert "It ranks answers by their embeddings" in card(hub.model(REPO)).text
    for name, content in hub.model(REPO).files.items():
        (tmp_path / "pulled" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pulled" / name).write_bytes(content)
    assert predictor_digest(tmp_path / "pulled") == predictor_digest(run)
    push(run, REPO, base_model=BASE, without_predictor=True)
    assert set(hub.model(REPO).files) == PUSHED
    assert "Latent predictor" not in card(hub.model(REPO)).text


def test_every_chat_template_of_a_tokenizer_is_pushed_and_fetched(hub, run):
    """Transformers saves all but the default one in a folder."""
    tokenizer = AutoTokenizer.from_pretrained(run)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(run)
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED | {"additional_chat_templates/tool_use.jinja"}
    fetched = find_adapter(REPO).directory
    assert AutoTokenizer.from_pretrained(fetched).chat_template == tokenizer.chat_template
    (run / "additional_chat_templates" / "tool_use.jinja").unlink()
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED


@pytest.mark.parametrize("is_plain", [True, False])
def test_the_form_of_a_runs_prompts_is_published(hub, run, is_plain):
    """The environment, which has it here, is not; whoever publishes what was pulled publishes it again."""
    environment = json.loads((run / "environment.json").read_text()) | {"has_plain_prompts": is_plain}
    (run / "environment.json").write_text(json.dumps(environment))
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED | {"prompts.json"}
    pulled = Path(snapshot_download(REPO))
    assert has_plain_prompts(pulled) is is_plain
    push(pulled, "team/again", base_model=BASE)
    assert hub.model("team/again").files["prompts.json"] == hub.model(REPO).files["prompts.json"]


def test_nothing_of_the_machine_is_published(hub, original, run):
    push(run, REPO, base_model=BASE)
    for name, content in hub.model(REPO).files.items():
        for secret in (TOKEN, "mira", "secret-project", str(run.parent), str(original.parent)):
            assert secret.encode() not in content, (name, secret)
    published = yaml.safe_load(hub.model(REPO).files["recipe.yaml"])
    assert published["dataset_name"] == "data"
    assert published["chat_template_path"] == "chat.jinja"
    assert published["output_dir"] == "outputs/adapter"
    assert not {"hub_model_id", "run_name"} & set(published)


@pytest.mark.parametrize("planted", [TOKEN, "/home/of-mira/notes"])
def test_a_text_that_names_the_machine_is_not_published(hub, run, planted, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of-mira")
    (run / "chat_template.jinja").write_text("{{ messages }}" + planted)
    with pytest.raises(ValueError, match=r"`chat_template.jinja` holds .* Nothing was published"):
        push(run, REPO, base_model=BASE)
    assert f"models/{REPO}" not in hub.repositories


def edit_recipe(run: Path, **settings) -> None:
    there = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(there | settings, sort_keys=False))


def test_templates_and_tokens_that_look_like_paths_are_published_as_they_are(hub, run):
    templates = {"source_column": "Q: {{ source }}", "system_prompt": "/no_think/ {{ q }}"}
    edit_recipe(run, **templates)
    config = json.loads((run / "tokenizer_config.json").read_text()) | {"additional_special_tokens": ["//", "A:"]}
    (run / "tokenizer_config.json").write_text(json.dumps(config))
    push(run, REPO, base_model=BASE)
    assert hub.model(REPO).files["tokenizer_config.json"] == (run / "tokenizer_config.json").read_bytes()
    published = yaml.safe_load(hub.model(REPO).files["recipe.yaml"])
    assert {key: published[key] for key in templates} == templates


def test_a_directory_is_no_hub_id_wherever_it_is_published_from(hub, run):
    """`dataset_name: data/pairs` was a directory when the run was trained, and is somebody's data set on the Hub."""
    hub.add("data/pairs", {}, kind="datasets")
    edit_recipe(run, dataset_name="data/pairs")
    environment = json.loads((run / "environment.json").read_text()) | {"local": ["dataset_name"]}
    (run / "environment.json").write_text(json.dumps(environment))
    push(run, REPO, base_model=BASE)
    assert card(hub.model(REPO)).data.datasets is None
    assert yaml.safe_load(hub.model(REPO).files["recipe.yaml"])["dataset_name"] == "pairs"


def test_what_is_private_is_not_named_in_public(hub, run, capsys):
    """A private base nobody could load; data stay unnamed, in recipe and card, unless they are given."""
    hub.add("team/secret-customer", {}, private=True, kind="datasets")
    hub.add("team/secret-base", {"config.json": b"{}"}, private=True)
    edit_recipe(run, dataset_name="team/secret-customer")
    arguments = run, "--repo_id", REPO, "--base_model", "team/secret-base"
    assert "is private on the Hub" in refusal(hub, capsys, *arguments, "--public")
    push(run, REPO, private=False, base_model=BASE)
    assert not [name for name, content in hub.model(REPO).files.items() if b"secret" in content]
    push(run, "team/named", private=False, base_model=BASE, dataset_id="team/secret-customer")
    assert card(hub.model("team/named")).data.datasets == ["team/secret-customer"]
    push(run, "team/private", base_model="team/secret-base")
    assert card(hub.model("team/private")).data.datasets == ["team/secret-customer"]


def test_the_revision_of_the_base_is_published_with_its_name(hub, run):
    edit_recipe(run, model_name_or_path=BASE, model_revision="v1.0")
    push(run, REPO)
    assert json.loads(hub.model(REPO).files["adapter_config.json"])["revision"] == "v1.0"
    assert f"vllm serve {BASE} --revision v1.0 " in card(hub.model(REPO)).text
    hub.add("team/copy", {"config.json": b"{}"})
    push(run, "team/other", base_model="team/copy")
    assert json.loads(hub.model("team/other").files["adapter_config.json"])["revision"] is None
    assert "model_revision" not in yaml.safe_load(hub.model("team/other").files["recipe.yaml"])


def test_files_of_an_earlier_push_that_are_gone_are_removed(hub, run):
    (run / "special_tokens_map.json").write_text("{}")
    push(run, REPO, base_model=BASE)
    for name in ("special_tokens_map.json", "recipe.yaml"):
        assert name in hub.model(REPO).files
        (run / name).unlink()
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED - {"recipe.yaml"}


def test_the_owners_files_stay_whatever_they_are_called(hub, run, caplog):
    """No push wrote them; one is there before the first push, one comes after it."""
    theirs = {"tokenization_mine.py": b"class Mine: ...\n", "added_tokens.json": b"{}"}
    hub.add(REPO, {"tokenization_mine.py": theirs["tokenization_mine.py"]}, private=True)
    push(run, REPO, base_model=BASE)
    assert said(caplog) == [
        f"{REPO}: No earlier push left a list of its files (.llm-jepa.json), so nothing was deleted. Perhaps "
        "outdated, and left there: tokenization_mine.py."
    ]
    caplog.clear()
    hub.model(REPO).commits.append(hub.model(REPO).files | theirs)
    push(run, REPO, base_model=BASE)
    assert {name: hub.model(REPO).files[name] for name in theirs} == theirs
    assert not said(caplog)


def test_a_file_that_its_owner_has_changed_is_never_deleted_and_written_over_only_with_a_word(hub, run, caplog):
    (run / "special_tokens_map.json").write_text("{}")
    push(run, REPO, base_model=BASE)
    changed = {"special_tokens_map.json": b'{"a": 1}', "adapter_config.json": b"{}", "adapter_model.safetensors": b"-"}
    hub.model(REPO).commits.append(hub.model(REPO).files | changed)
    (run / "special_tokens_map.json").unlink()
    push(run, REPO, base_model=BASE)
    assert hub.model(REPO).files["special_tokens_map.json"] == b'{"a": 1}'
    assert hub.model(REPO).files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
    assert said(caplog) == [
        f"{REPO}: Files were changed since the last push. Written over, and kept in the repository's history: "
        "adapter_config.json, adapter_model.safetensors. Perhaps outdated, and left there: special_tokens_map.json."
    ]


def test_what_was_published_without_a_list_is_left_there(hub, run, caplog):
    """As versions without lists did. The next push deletes only what this one wrote."""
    (run / "special_tokens_map.json").write_text("{}")
    push(run, REPO, base_model=BASE)
    before = {name: content for name, content in hub.model(REPO).files.items() if name != ".llm-jepa.json"}
    hub.model(REPO).commits.append(before)
    for name in ("special_tokens_map.json", "recipe.yaml"):
        (run / name).unlink()
    (run / "chat_template.jinja").write_text("{{ messages }}")
    push(run, REPO, base_model=BASE)
    assert set(hub.model(REPO).files) == PUSHED | {"special_tokens_map.json"}
    [line] = said(caplog)
    assert "No earlier push left a list of its files (.llm-jepa.json), so nothing was deleted." in line
    assert "Perhaps outdated, and left there: recipe.yaml, special_tokens_map.json." in line
    assert "Written over, and kept in the repository's history: chat_template.jinja." in line


def test_a_list_that_cannot_be_read_is_named(hub, run, capsys):
    hub.add(REPO, {".llm-jepa.json": b"[]"}, private=True)
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    assert f"{REPO}: its .llm-jepa.json is no list of files. Delete it on the Hub. Nothing was published." in error


def test_the_card_tells_what_is_known(hub, run):
    edit_recipe(run, source_view_column="text", target_view_column="code")
    push(run, REPO, base_model=BASE, dataset_id=DATA)
    published = card(hub.model(REPO))
    data = published.data
    assert (data.base_model, data.base_model_relation, data.library_name) == (BASE, "adapter", "peft")
    assert data.datasets == [DATA]
    text = published.text
    assert "Columns: `source` (source), `target` (target), `text` (source view), `code` (target view)." in text
    assert "| `jepa_weight` | `0.5` |" in text
    assert "| base | 12.5 (2.2 to 47.1) |" in text
    assert "| tuned | 37.5 (13.7 to 69.4) |" in text
    assert "commit `c0ffee`" in text
    assert "The base's weights in training: From a package." in text
    for row in ("steps | 7", "epochs | 1.5", "tokens | 1,234", "start) | 61", "device | 2 x NVIDIA H100"):
        assert f"{row} |" in text
    assert f'AutoPeftModelForCausalLM.from_pretrained("{REPO}")' in text
    assert f"--max-lora-rank 8 --lora-modules adapter={REPO}" in text


def test_hand_written_text_and_metadata_are_kept(hub, run):
    """The second push writes its own section anew, where the owner has moved it, and nothing else."""
    written = "---\nlicense: mit\nlibrary_name: peft\ntags:\n- mine\n---\n\n# Mine\n\nBy hand.\n"
    hub.add(REPO, {"README.md": written.encode(), "samples.txt": b"kept"}, private=True)
    push(run, REPO, base_model=BASE)
    first = card(hub.model(REPO))
    assert first.text.startswith("\n# Mine\n\nBy hand.\n\n" + SECTION_BEGIN)
    moved = hub.model(REPO).files["README.md"].decode().replace("# Mine", "# Ours") + "\nAfterword.\n"
    hub.model(REPO).commits.append(hub.model(REPO).files | {"README.md": moved.encode()})
    (run / "scores-tuned.json").unlink()
    push(run, REPO, base_model=BASE)
    second = card(hub.model(REPO))
    assert second.text.startswith("\n# Ours\n\nBy hand.\n\n" + SECTION_BEGIN)
    assert second.text.endswith(SECTION_END + "\n\nAfterword.\n")
    assert "## Results" in first.text
    assert "## Results" not in second.text
    assert second.data.license == "mit"
    assert second.data.tags == ["mine", "llm-jepa", "trl", "sft"]
    assert hub.model(REPO).files["samples.txt"] == b"kept"


def test_a_second_push_of_the_same_changes_nothing(hub, run):
    for _ in range(2):
        push(run, REPO, base_model=BASE)
    assert len(hub.model(REPO).commits) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"r": 1024}, "rank 1024"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa"),
    ],
)
def test_what_vllm_does_not_serve_is_said(hub, tmp_path, caplog, options, reason):
    adapter = save_adapter(tmp_path / "adapter", save_tiny_model(tmp_path / "base"), **options)
    push(adapter, REPO, base_model=BASE)
    assert reason in caplog.text
    assert "vllm serve" not in card(hub.model(REPO)).text
    assert reason in card(hub.model(REPO)).text
