"""The plan of VL-JEPA has the paper's parameter counts, and its FLOPs, memory and tokens are those of formulas."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, Gemma3TextConfig, LlamaConfig, VJEPA2Config
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from llm_jepa.cli import main
from llm_jepa.compute.devices import find_gpu
from llm_jepa.planning.vision import DryVisionModel, make_vision_plan
from llm_jepa.vision.building import load_model
from llm_jepa.vision.recipe import VisionRecipe, parse_any_recipe
from tests.tiny import tiny_tokenizer
from tests.vision.tiny_parts import colour_rows, saved

ROOT = Path(__file__).parents[2]
PAPER = {
    "vision_encoder": VJEPA2Config(),  # ViT-L
    "language_model": LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, tie_word_embeddings=True,
    ),
    "text_encoder": Gemma3TextConfig(
        vocab_size=262144, hidden_size=768, intermediate_size=1152, num_hidden_layers=24, num_attention_heads=3,
        num_key_value_heads=1, head_dim=256, use_bidirectional_attention=True,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("rows")
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in colour_rows(directory)))
    return str(directory / "rows.jsonl")


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> dict[str, str]:
    """Directories with the paper's configurations and no weights."""
    directories = {}
    for key, config in PAPER.items():
        directory = tmp_path_factory.mktemp(key)
        config.save_pretrained(directory)
        tiny_tokenizer().save_pretrained(directory)
        BitImageProcessorPil(size={"height": 256, "width": 256}, do_center_crop=False).save_pretrained(directory)
        directories[key] = str(directory)
    return directories


def recipe_of(rows: str, parts: dict[str, str], **options) -> VisionRecipe:
    given = {**parts, "dataset_name": rows, "output_dir": "unused", **options}
    words = [f"--{key}={value}" for key, value in given.items()]
    recipe = parse_any_recipe([str(ROOT / "recipes" / "vl" / "paper-1-captions.yaml"), *words])
    assert isinstance(recipe, VisionRecipe)
    return recipe


def plan_of(rows: str, parts: dict[str, str], **options):
    return make_vision_plan(recipe_of(rows, parts, **options))


def test_the_paper_counts_its_parameters(rows, paper):
    """VL-JEPA (arXiv 2512.10942): V-JEPA 2 ViT-L 304M frozen; a predictor of 490M trained, 487M of them its layers;
    EmbeddingGemma 300M. 16 frames of 256 x 256 are 8 x 16 x 16 tokens.
    """
    dry = DryVisionModel(recipe_of(rows, paper).training)
    parts, weights = dry.parts(), dry.weights()
    millions = {name: (round(one.parameters / 1e6), round(one.trained / 1e6)) for name, one in parts.items()}
    assert millions == {
        "vision_encoder": (304, 0), "token_embeddings": (263, 0), "predictor": (487, 487), "projector": (2, 2),
        "prediction_head": (3, 3), "text_encoder": (303, 303), "target_head": (1, 1), "log_temperature": (0, 0),
    }  # fmt: skip
    head_and_layers = ("predictor", "projector", "prediction_head")
    assert sum(parts[name].trained for name in head_and_layers) == pytest.approx(490e6, rel=0.01)
    assert dry.visual_tokens(torch.empty(1, 16, 3, 256, 256)) == 8 * 16 * 16
    assert weights.trained_parameters == sum(one.trained for one in parts.values())
    assert weights.weight_bytes == pytest.approx(4 * sum(one.parameters for one in parts.values()), rel=1e-3)


def tiny_parts() -> dict[str, str]:
    names = zip(PAPER, ("dinov2", "llama", "bert"), strict=True)
    return {key: saved(name) for key, name in names}


TINY = {
    "predictor_layers": 2,
    "embedding_size": 12,
    "bf16": "false",
    "gradient_checkpointing": "false",
    "num_frames": 1,
}


def matrices(part: str) -> int:
    model = AutoModel.from_pretrained(saved(part))
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d))


def test_flops_are_those_of_the_matrices(rows):
    """2 a parameter and token forward, 4 backward; frozen encoders forward alone. Attention and embeddings are left
    out of the formula, which is therefore a lower bound, and near.
    """
    plan = plan_of(rows, tiny_parts(), **TINY, text_encoder_learning_rate_factor=0, per_device_train_batch_size=4)
    answer = round(plan.answer_tokens[0])
    layers = matrices("llama") / 2 * 5  # two of four layers, for five tokens
    projector, heads = 16 * 32 * 5, 32 * 12 + 16 * 12
    forward = matrices("dinov2") * 4 + matrices("bert") * answer
    floor = 4 * (2 * forward + 6 * (layers + projector) + 6 * heads)
    # The first trained layer passes no gradient to what is frozen: the projector's inputs, the encoder's outputs.
    assert 0.85 * floor < plan.flops_per_step < 1.6 * floor


def test_a_linear_probe_and_a_token_vlm_have_the_flops_of_their_matrices(rows):
    """A probe has no layers. A token VLM has no text encoder; its layers read the answer too, and its frozen head
    computes the answer's logits and their gradient: 2 forward, 2 backward.
    """
    options = {"text_encoder_learning_rate_factor": 0, "per_device_train_batch_size": 4}
    probe = plan_of(rows, tiny_parts(), **TINY | {"predictor_layers": 0}, **options)
    answer = round(probe.answer_tokens[0])
    projector, heads = 16 * 32 * 4, 32 * 12 + 16 * 12
    floor = 4 * (2 * (matrices("dinov2") * 4 + matrices("bert") * answer) + 6 * (projector + heads))
    assert 0.85 * floor < probe.flops_per_step < 1.3 * floor
    assert probe.parts["predictor"].trained == 0

    tokens = plan_of(rows, tiny_parts(), **TINY, **options, answer_form="tokens")
    answer = round(tokens.answer_tokens[0])
    layers, head = matrices("llama") / 2 * (4 + answer), 320 * 32 * (answer + 1)
    floor = 4 * (2 * matrices("dinov2") * 4 + 6 * (layers + projector) + 4 * head)
    assert 0.85 * floor < tokens.flops_per_step < 1.3 * floor
    assert {name: one.trained > 0 for name, one in tokens.parts.items()} == {
        "vision_encoder": False, "token_embeddings": False, "language_model": True, "projector": True,
    }  # fmt: skip
    layers = 2 * matrices("llama") / 4 + 5 * 32  # two norms of each layer, and the last
    assert sum(one.trained for one in tokens.parts.values()) == layers + 16 * 32 + 32


@pytest.mark.parametrize("vision", ["dinov2", "siglip", "vjepa2"])
def test_of_a_trained_encoder_as_many_weights_are_counted_as_training_trains(vision, rows):
    """DINOv2 has a token of masked patches, and SigLIP a head that pools: no patch depends on them."""
    parts, options = tiny_parts() | {"vision_encoder": saved(vision)}, {"vision_encoder_learning_rate_factor": 1}
    recipe = recipe_of(rows, parts, **TINY, **options)
    encoder = load_model(recipe.training).vision_encoder
    trained = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
    plan = make_vision_plan(recipe).parts["vision_encoder"]
    assert (plan.parameters, plan.trained) == (encoder.num_parameters(), trained)
    assert (trained < plan.parameters) == (vision != "vjepa2")


def test_larger_pictures_have_more_tokens(rows):
    """Twice the height and width are four times the tokens of a convolutional encoder."""
    parts = tiny_parts() | {"vision_encoder": saved("resnet")}
    small, large = (plan_of(rows, parts, **TINY, image_size=size) for size in (32, 64))
    assert large.visual_tokens == 4 * small.visual_tokens


def test_more_frames_take_more_memory_and_cached_features_less(rows, tmp_path):
    one = plan_of(rows, tiny_parts(), **TINY)
    eight = plan_of(rows, tiny_parts(), **TINY | {"num_frames": 8})
    assert eight.visual_tokens == 8 * one.visual_tokens
    assert eight.memory["activations"] > 2 * one.memory["activations"]
    cached = plan_of(rows, tiny_parts(), **TINY | {"num_frames": 8}, feature_cache=str(tmp_path / "cache"))
    assert cached.flops_per_step < eight.flops_per_step
    assert cached.memory["activations"] <= eight.memory["activations"]
    assert not (tmp_path / "cache").exists()


def test_the_command_shows_parts_memory_and_a_verdict(rows, capsys):
    given = {**tiny_parts(), "dataset_name": rows, "output_dir": "unused", **TINY}
    words = [f"--{key}={value}" for key, value in given.items()]
    assert main(["plan", str(ROOT / "recipes" / "vl" / "paper-1-captions.yaml"), "--gpu", "H100-80GB", *words]) == 0
    said = capsys.readouterr().out
    assert "fits" in said
    for word in ("vision_encoder", "activations", "TFLOP a step", "hours:"):
        assert word in said


def test_devices_that_cannot_train_are_refused_as_for_text(rows):
    recipe = recipe_of(rows, tiny_parts(), **TINY | {"bf16": "true"})
    with pytest.raises(ValueError, match=r"does not support bf16.* `--bf16 false --fp16 true`"):
        make_vision_plan(recipe, find_gpu("t4-16gb"))
    number = len(Path(rows).read_text().splitlines())
    with pytest.raises(ValueError, match=f"{number + 1} devices are more than the {number} rows"):
        make_vision_plan(recipe, find_gpu("l4-24gb"), number + 1, "multi-gpu")


@pytest.mark.parametrize("option", ["--calibrate", "--price_per_hour=2", "--latency=absent.json"])
def test_options_of_text_alone_are_refused(rows, option, capsys):
    words = [f"--{key}={value}" for key, value in {**tiny_parts(), "dataset_name": rows, "output_dir": "out"}.items()]
    recipe = str(ROOT / "recipes" / "vl" / "paper-1-captions.yaml")
    with pytest.raises(SystemExit) as stopped:
        main(["plan", recipe, "--gpu=l4-24gb", option, *words])
    assert stopped.value.code == 2
    name = option.partition("=")[0]
    assert f"`{name}` has no effect on a recipe of VL-JEPA. Leave it out." in capsys.readouterr().err
