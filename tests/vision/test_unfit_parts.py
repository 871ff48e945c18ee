"""Parts of which no VL-JEPA can be made are refused by `train` and by `plan`, before anything is written."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    EfficientNetConfig,
    Gemma3Config,
    PreTrainedConfig,
    RobertaConfig,
    Siglip2Config,
    T5Config,
    VideoMAEConfig,
    ViTMAEConfig,
)

from llm_jepa.cli import main
from llm_jepa.vision.text_encoder import max_positions
from tests.vision.tiny_parts import LANGUAGE, PLACE, TEXT, TRANSFORMER, ViT, colour_rows, saved

SMALL = {**TRANSFORMER, "intermediate_size": 32}
UNFIT: dict[str, PreTrainedConfig] = {
    "vit_mae": ViTMAEConfig(**ViT, intermediate_size=32),
    "videomae": VideoMAEConfig(**ViT, intermediate_size=32, num_frames=2),
    "efficientnet": EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.1),
    "naflex": Siglip2Config(
        vision_config={**SMALL, "num_patches": 16, "patch_size": 4},
        text_config={**SMALL, "vocab_size": 50, "projection_size": 16},
    ),
    "t5": T5Config(vocab_size=320, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2),
    "roberta": RobertaConfig(**SMALL, vocab_size=320, pad_token_id=1, max_position_embeddings=34),
    "gemma3_pictures": Gemma3Config(
        text_config={**TEXT, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
                     "num_attention_heads": 4, "num_key_value_heads": 2},
        vision_config={**SMALL, "image_size": 16, "patch_size": 8}, mm_tokens_per_image=4,
    ),
}  # fmt: skip


@functools.cache
def unfit(name: str) -> str:
    """The directory of a tiny part, with the files that stand beside a fit one."""
    directory = Path(PLACE.name) / name
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if name == "gemma3_pictures" else AutoModel
    kind.from_config(UNFIT[name]).save_pretrained(directory)
    neighbour = "bert" if name in ("t5", "roberta", "gemma3_pictures") else "dinov2"
    own = shutil.ignore_patterns("config.json", "model.safetensors")
    shutil.copytree(saved(neighbour), directory, dirs_exist_ok=True, ignore=own)
    return str(directory)


@pytest.mark.parametrize(
    ("command", "part", "name", "message"),
    [
        ("train", "vision_encoder", "vit_mae", r"\(vit_mae\) gives other tokens for the same picture each time"),
        ("train", "vision_encoder", "videomae", r"\(videomae\) takes no pictures of 16 x 16 pixels alone: "),
        ("plan", "vision_encoder", "videomae", r"\(videomae\) takes no pictures of 16 x 16 pixels alone: "),
        ("train", "vision_encoder", "naflex", r"takes no pictures of 16 x 16 pixels alone: .*missing 2 required"),
        ("train", "vision_encoder", "efficientnet", r"\(efficientnet\) has no `hidden_size` and no `hidden_sizes`"),
        ("train", "text_encoder", "t5", r"\(t5\) takes no `input_ids` and `attention_mask` alone: .*Name another"),
        ("plan", "text_encoder", "t5", r"\(t5\) takes no `input_ids` and `attention_mask` alone: .*Name another"),
        ("train", "text_encoder", "roberta", r"`max_answer_tokens` is 33; the text encoder \(roberta\) has 32 pos"),
        ("train", "language_model", "gemma3_pictures", r"\(gemma3\) is of texts and pictures. Name a causal LM"),
    ],
)
def test_a_part_that_cannot_be_trained_is_refused(command, part, name, message, tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in colour_rows(tmp_path)))
    parts = {"vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert")}
    settings = {
        **parts, part: unfit(name), "predictor_layers": 2, "max_answer_tokens": 33,
        "dataset_name": str(tmp_path / "rows.jsonl"), "output_dir": str(tmp_path / "run"),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit):
        main([command, str(tmp_path / "recipe.yaml")])
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "run").exists()


def test_positions_are_counted_from_the_padding():
    """RoBERTa's 34 with the padding at 1 are 32; rotary ones have no end."""
    assert max_positions(AutoModel.from_pretrained(unfit("roberta"))) == 32
    assert max_positions(AutoModel.from_pretrained(saved("bert"))) == 512
    assert max_positions(AutoModelForCausalLM.from_config(LANGUAGE["llama"])) is None
