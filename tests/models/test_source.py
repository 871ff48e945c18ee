"""A model that is not there, not whole or of another kind is refused in one line, without torch."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from transformers import LlamaForCausalLM

from llm_jepa.models import source
from llm_jepa.models.source import check_architecture, check_local_base, check_local_model, check_model_on_hub
from tests.hub.hub_server import BASE
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return Path(save_tiny_model(tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(autouse=True)
def _asked_anew():
    source._ask_hub.cache_clear()


def copied(model: Path, directory: Path) -> Path:
    return Path(shutil.copytree(model, directory / "copy"))


def test_a_whole_model_passes(model, tmp_path):
    check_local_model(str(model))
    check_local_base(str(model))
    LlamaForCausalLM.from_pretrained(model).save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    check_local_base(str(tmp_path / "shards"))


def test_a_file_that_was_cut_off_is_named(model, tmp_path):
    """Cut anywhere: in the tensors, in the header, in its length; or another file under the name."""
    weights = copied(model, tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:20], whole[:4], b"", b"version https://git-lfs"):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=rf"model.safetensors` is not whole: it has {len(content)} bytes"):
            check_local_base(str(weights.parent))
    check_local_base(str(weights.parent), reads_weights=False)


def test_missing_files_of_weights_are_named(model, tmp_path):
    LlamaForCausalLM.from_pretrained(model).save_pretrained(tmp_path, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    shards[-1].unlink()
    with pytest.raises(ValueError, match=f"lacks 1 of {len(shards)} files of weights: {shards[-1].name}. Fetch"):
        check_local_base(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="is no index of weights"):
        check_local_base(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match="holds no weights"):
        check_local_base(str(tmp_path))
    check_local_base(str(tmp_path), reads_weights=False)


def test_a_configuration_that_cannot_be_read_is_named(model, tmp_path):
    directory = copied(model, tmp_path)
    for text, message in (("{", "config.json` is not JSON"), ("[]", "config.json` holds no mapping")):
        (directory / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            check_local_base(str(directory))


def test_an_adapter_is_no_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is an adapter\. Merge it into its base, and train the merged model"):
        check_local_base(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "is_allowed"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, True),
        ({"architectures": ["GPT2LMHeadModel"]}, True),
        ({"model_type": "llama"}, True),
        ({"architectures": ["Own"], "auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}, True),
        ({"architectures": ["BertForMaskedLM"]}, False),
        ({"architectures": ["LlamaForSequenceClassification"]}, False),
        ({"architectures": ["LlamaModel"]}, False),
        ({"architectures": ["LlavaForConditionalGeneration"], "vision_config": {}}, False),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, False),
        ({"model_type": "bart", "is_encoder_decoder": True}, False),
    ],
)
def test_only_a_causal_language_model_is_trained(config, is_allowed):
    if is_allowed:
        check_architecture(config, "given")
        return
    kind = config.get("architectures", ["bart"])[0]
    with pytest.raises(ValueError, match=f"`model_name_or_path: given` is of the kind {kind}; only causal"):
        check_architecture(config, "given")


def test_a_misspelt_directory_is_told_of_the_one_beside_it(model, monkeypatch):
    with pytest.raises(ValueError, match=f"is no directory .* Did you mean `{model}`"):
        check_local_model(str(model.parent / "lama"))
    monkeypatch.chdir(model.parent.parent)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    name = f"{model.parent.name}/lama"
    check_local_model(name)  # it could be a Hub id
    with pytest.raises(ValueError, match=f"{name}`: Did you mean `{model.parent.name}/llama`. {name}: HF_HUB_OFFLINE"):
        check_model_on_hub(name)


def test_a_model_is_looked_for_on_the_hub_once(hub):
    check_model_on_hub(BASE)
    with pytest.raises(ValueError, match="team/none: There is no such repository"):
        check_model_on_hub("team/none")
    with pytest.raises(ValueError, match=r"Did you mean `smollm2-135m-instruct`\?"):
        check_model_on_hub("smolm2-135m-instruct")
    with pytest.raises(ValueError, match="`chat_template_path: team/other`: team/other: There is no such"):
        check_model_on_hub("team/other", "chat_template_path")
    asked = len(hub.calls)
    check_model_on_hub(BASE)
    check_model_on_hub("smollm2-135m-instruct")
    assert len(hub.calls) == asked == 4
    cached = Path(huggingface_hub.constants.HF_HUB_CACHE) / "models--team--cached"
    cached.mkdir(parents=True)
    (cached / "refs").write_text(json.dumps({}))
    check_model_on_hub("team/cached")
    assert len(hub.calls) == asked
