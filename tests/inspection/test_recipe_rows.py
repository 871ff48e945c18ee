"""The rows of a recipe can be inspected for any model, without its weights."""

import json

import pytest

from llm_jepa.cli import main
from llm_jepa.inspection.recipe_rows import inspect_recipe
from llm_jepa.recipe import parse_recipe
from tests.tiny import PAIRS, save_tiny_model

CONFIGURATION = """
from transformers import LlamaConfig

class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODELING = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def inspected(tmp_path):
    """Inspects a recipe with given lines; of its tiny model only config and tokenizer exist."""
    model = tmp_path / "model"
    save_tiny_model(model)
    (model / "model.safetensors").unlink()
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))

    def inspect(lines: str = "", **config):
        settings = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(settings | config))
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"model_name_or_path: {model}\ndataset_name: {data}\noutput_dir: {tmp_path / 'out'}\n"
            f"source_column: source\ntarget_column: target\nuse_cpu: true\nbf16: false\n{lines}"
        )
        return inspect_recipe(parse_recipe([str(recipe)]), 2)

    inspect.model = model
    return inspect


LORA_4BIT = "use_peft: true\nload_in_4bit: true\n"


@pytest.mark.parametrize("lines", ["", "from_scratch: true\n", LORA_4BIT], ids=["plain", "from scratch", "4 bit"])
def test_rows_are_shown_without_the_models_weights(lines, inspected):
    inspection = inspected(lines)
    assert inspection.layout == "packed (`plain` mask, sdpa)"
    assert inspection.num_rows == len(PAIRS)
    assert [row.index for row in inspection.rows] == [0, 1]
    assert inspection.rows[0].views[1].pieces[-len(PAIRS[0]["target"]) :][-1] in PAIRS[0]["target"]


def test_the_target_of_a_shuffled_pair_is_shown_with_the_row_it_is_from(inspected, tmp_path, capsys):
    inspection = inspected("shuffle_pairs: true\n")
    plain = inspected()
    assert [row.pieces for row in inspection.rows] == [row.pieces for row in plain.rows]
    for row in inspection.rows:
        source, target = row.views
        assert (source.partner, row.index != target.partner) == (None, True)
        assert PAIRS[target.partner]["target"] in "".join(target.pieces)
    assert sum(inspection.counts["forward"]) == sum(plain.counts["forward"])
    main(["inspect", str(tmp_path / "recipe.yaml"), "--shuffle_pairs", "true", "--rows", "1"])
    assert f"target view of row {inspection.rows[0].views[1].partner} (`shuffle_pairs`)," in capsys.readouterr().out


def test_of_several_objectives_the_views_are_shown(inspected):
    plain, several = inspected(), inspected("jepa_objective: [tube, pair]\n")
    assert [row.views for row in several.rows] == [row.views for row in plain.rows]
    assert several.counts == plain.counts


def test_a_target_of_codes_is_read_nowhere(inspected, tmp_path, capsys):
    (first, _) = inspected("jepa_objective: answer_code\nnum_predictor_tokens: 2\n").rows
    source, target = first.views
    assert (source.role, source.pieces[-2:]) == ("predicts", ["[PRED]"] * 2)
    assert target.role == "is coded"
    main(["inspect", str(tmp_path / "recipe.yaml"), "--rows", "1"])
    assert f"target view {len(target.pieces)} tokens, is coded\n" in capsys.readouterr().out


def test_the_ends_of_steps_are_shown(inspected, tmp_path, capsys):
    (first, _) = inspected("jepa_objective: step\nstep_separator: '[*]'\n").rows
    (steps,) = first.views
    assert (steps.role, len(steps.pieces)) == ("ends", PAIRS[0]["target"].count("*"))
    main(["inspect", str(tmp_path / "recipe.yaml"), "--rows", "1"])
    assert f"{len(steps.pieces)} steps of the target, which end at [" in capsys.readouterr().out


def test_an_objective_of_conversations_has_no_views_to_show(inspected, tmp_path):
    (tmp_path / "own.py").write_text(
        "from llm_jepa.objectives.base import Objective\n"
        "class Mine(Objective):\n    row_needs = 'conversation'\n    def loss(self, inputs): ...\n"
    )
    inspection = inspected(f"jepa_objective: {tmp_path / 'own.py'}:Mine\n")
    assert [row.views for row in inspection.rows] == [[], []]
    assert {*inspection.counts["source"], *inspection.counts["target"]} == {0}
    assert inspection.counts["forward"] == inspection.counts["conversation"]


def test_a_recipe_without_an_output_dir_is_inspected(inspected, tmp_path, monkeypatch, capsys):
    """Nothing is written; training demands it."""
    inspected()
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("".join(line for line in recipe.open() if not line.startswith("output_dir")))
    before = sorted(tmp_path.rglob("*"))
    assert main(["inspect", "recipe.yaml"]) == 0
    assert f"rows: {len(PAIRS)}" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="`output_dir` must be given"):
        parse_recipe(["recipe.yaml"])


def test_a_shuffled_row_is_shown_with_its_own_number(inspected):
    rows = inspected("shuffle_dataset: true\n").rows
    assert [row.index for row in rows] != [0, 1]
    for row in rows:
        assert PAIRS[row.index]["target"] in "".join(row.pieces)


def test_a_model_with_code_of_its_own_is_inspected(inspected):
    (inspected.model / "configuration_own.py").write_text(CONFIGURATION)
    (inspected.model / "modeling_own.py").write_text(MODELING)
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    inspection = inspected("trust_remote_code: true\n", model_type="own_llama", auto_map=own)
    assert inspection.layout == "packed (`plain` mask, sdpa)"


@pytest.mark.parametrize(
    ("lines", "layout"),
    [
        ("attn_implementation: eager\n", "packed (`plain` mask, eager)"),
        ("model_init_kwargs: {attn_implementation: eager}\n", "packed (`plain` mask, eager)"),
        ("attn_implementation: sdpa\nmodel_init_kwargs: {attn_implementation: flex_attention}\n", "flex_attention)"),
        ("attn_implementation: flash_attention_2\n", "flat (no mask, flash_attention_2)"),
        (
            "attn_implementation: kernels-community/flash-attn2\njepa_layout: flat\n",
            "flat (no mask, kernels-community/",
        ),
        ("attn_implementation: flash_attention_2\njepa_layout: rows\n", "rows (as requested)"),
    ],
)
def test_layout_is_that_of_the_recipes_attention(lines, layout, inspected):
    """Its kernels need not be installed; `model_init_kwargs` overrides it, as in training."""
    assert layout in inspected(lines).layout


def test_layout_is_that_of_the_config_that_training_would_load(inspected):
    """`model_init_kwargs` may change the architecture's own settings too."""
    assert inspected("", model_type="mistral", sliding_window=None).layout == "packed (`plain` mask, sdpa)"
    windowed = inspected("model_init_kwargs: {sliding_window: 64}\n", model_type="mistral", sliding_window=None)
    assert windowed.layout == "packed (`windowed` mask, sdpa)"


def test_a_flat_row_is_shown_as_it_is_stored(inspected):
    """Every sequence is complete and attends only to itself; the target ends the row."""
    row = inspected("attn_implementation: flash_attention_2\n").rows[0]
    assert len(row.stored) == row.stored_tokens == len(row.pieces) + sum(len(view.pieces) for view in row.views)
    assert row.stored == [*row.pieces, *row.views[0].pieces, *row.views[1].pieces]
    lengths = [len(row.pieces), *(len(view.pieces) for view in row.views)]
    assert row.mask_LL.sum().item() == sum(length * (length + 1) // 2 for length in lengths)


def test_a_row_beyond_the_model_is_refused_with_its_line(inspected):
    """As in training: a token without an embedding, and more tokens than a table has positions."""
    with pytest.raises(ValueError, match=r"data.jsonl`, line \d: the row has the token id \d+ in `input_ids`"):
        inspected("", vocab_size=250)
    gpt2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 320, "rope_parameters": None}
    with pytest.raises(ValueError, match=r"data.jsonl`, line 1: the row has \d+ tokens, .* 20 positions"):
        inspected("", **gpt2, max_position_embeddings=20)
    inspected("", **gpt2, max_position_embeddings=512)


def test_a_long_row_is_refused_or_counted_as_the_recipe_says(inspected):
    dropped = inspected("max_length: 70\n").dropped
    row, tokens = dropped[0]
    with pytest.raises(
        ValueError, match=rf"data.jsonl`, line {row + 1}: the row has {tokens} tokens; `max_length` is 70"
    ):
        inspected("max_length: 70\nlong_rows: error\n")


def test_a_layout_that_training_would_refuse_is_refused(inspected):
    with pytest.raises(ValueError, match="`jepa_layout: flat` is not possible"):
        inspected("jepa_layout: flat\n")
