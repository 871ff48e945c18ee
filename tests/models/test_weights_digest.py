"""The digest that tells checkpoints apart: of their weights and of nothing beside them."""

import pytest

from llm_jepa.models.weights_digest import weights_digest


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("config.json", ["model.safetensors"]),
        ("config.json", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
        ("config.json", ["pytorch_model.bin"]),
        ("adapter_config.json", ["adapter_model.safetensors"]),
    ],
)
def test_a_digest_is_of_the_weights_alone(tmp_path, config, names):
    (tmp_path / config).write_text("{}")
    for name in names:
        (tmp_path / name).write_bytes(b"weights")
    before = weights_digest(tmp_path)
    for name in ("training_args.bin", "other.safetensors"):
        (tmp_path / name).write_bytes(b"beside")
    assert weights_digest(tmp_path) == before
    (tmp_path / names[-1]).write_bytes(b"changed")
    assert weights_digest(tmp_path) != before
