"""A recipe is read by the types of its keys, and what cannot be read is refused by name."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trl import ModelConfig, ScriptArguments

from llm_jepa.config import JEPAConfig
from llm_jepa.recipe import parse_recipe
from llm_jepa.settings.reading import read_settings, recipe_text

REQUIRED = "model_name_or_path: model\ndataset_name: data\noutput_dir: out\n"


@pytest.fixture
def written(tmp_path):
    """Writes a recipe of the required keys and the given lines."""

    def write(lines: str = "", required: str = REQUIRED) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text("#!/usr/bin/env -S python -m llm_jepa.train\n" + required + lines)
        return str(path)

    return write


def test_every_key_goes_to_its_configuration(written):
    """One flat file configures the data, the model and the training, ours included."""
    recipe = parse_recipe([written("dataset_train_split: train[:10]\nuse_peft: true\nlora_r: 4\njepa_weight: 0.5\n")])
    assert recipe.script.dataset_train_split == "train[:10]"
    assert recipe.model.use_peft is True
    assert recipe.model.lora_r == 4
    assert recipe.training.jepa_weight == 0.5
    assert recipe.output_dir == Path("out")


def test_settings_are_exactly_the_keys_given(written):
    """No default is filled in, the order is the recipe's, overrides replace and follow."""
    recipe = parse_recipe([written("seed: 1\nbf16: false\n"), "--max_steps", "2", "--seed", "7"])
    assert list(recipe.settings.items()) == [
        ("model_name_or_path", "model"),
        ("dataset_name", "data"),
        ("output_dir", "out"),
        ("seed", 7),
        ("bf16", False),
        ("max_steps", 2),
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("learning_rate: 1e-3", 0.001),
        ("learning_rate: 2", 2.0),
        ("max_grad_norm: .inf", float("inf")),
        ("max_steps: -1", -1),
        ("eval_strategy: no", "no"),
        ("run_name: 007", "007"),
        ("run_name: 2026-11-23", "2026-11-23"),
        ("packing: off", False),
        ("system_prompt: null", None),
        ("system_prompt: 'null'", "null"),
        ("system_prompt:", None),
        ("max_length: none", None),
        ("report_to: none", "none"),
        ("report_to: [tensorboard, trackio]", ["tensorboard", "trackio"]),
        ("lora_target_modules: [q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("pad_to_multiple_of: 8", 8),
        ("jepa_objective: [pair, tube]", ["pair", "tube"]),
        ("jepa_objective: [pair, my/own.py:Mine]", ["pair", "my/own.py:Mine"]),
        ("jepa_objective: tube", "tube"),
        ("objective_weights: [1, 1e-1]", [1.0, 0.1]),
        ("trackio_static_space_id: false", False),
        ("include_num_input_tokens_seen: all", "all"),
        ("model_init_kwargs: {rate: 1e-3, name: '1e-3', on: [1, {two: 2}]}", None),
    ],
)
def test_yaml_values_take_the_type_of_their_key(written, line, value):
    key = line.partition(":")[0]
    if key == "model_init_kwargs":  # inside a mapping the types are YAML's, `1e-3` excepted
        value = {"rate": 0.001, "name": "1e-3", True: [1, {"two": 2}]}
    read = read_settings(Path(written(line)))[key]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--learning_rate", "1e-3"], "learning_rate", 0.001),
        (["--learning-rate=1e-3"], "learning_rate", 0.001),
        (["--max_steps", "-1"], "max_steps", -1),
        (["--bf16"], "bf16", True),
        (["--bf16", "false"], "bf16", False),
        (["--system_prompt", "null"], "system_prompt", None),
        (["--system_prompt="], "system_prompt", ""),
        (["--system_prompt=--be brief: a=b"], "system_prompt", "--be brief: a=b"),
        (["--lora_target_modules", "q_proj", "v_proj"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--lora_target_modules", "q_proj"], "lora_target_modules", ["q_proj"]),
        (["--lora_target_modules", "[q_proj, v_proj]"], "lora_target_modules", ["q_proj", "v_proj"]),
        (["--lora_target_modules", "[qv]_proj"], "lora_target_modules", ["[qv]_proj"]),
        (["--view_columns=[english, '{{ no }}', \"a, b\"]"], "view_columns", ["english", "{{ no }}", "a, b"]),
        (["--view_columns", "[english", "french]"], "view_columns", ["[english", "french]"]),
        (["--report_to", "[trackio, tensorboard]"], "report_to", ["trackio", "tensorboard"]),
        (["--jepa_objective", "pair", "tube"], "jepa_objective", ["pair", "tube"]),
        (["--jepa_objective", "[pair, tube]"], "jepa_objective", ["pair", "tube"]),
        (["--jepa_objective", "tube"], "jepa_objective", "tube"),
        (["--objective_weights", "1", "0.5"], "objective_weights", [1.0, 0.5]),
        (["--objective_weights", "null"], "objective_weights", None),
        (["--system_prompt", "[be, brief]"], "system_prompt", "[be, brief]"),
        (["--lr_scheduler_kwargs", '{"min_lr": 1e-5}'], "lr_scheduler_kwargs", {"min_lr": 1e-5}),
        (["--seed", "1", "--seed", "2"], "seed", 2),
    ],
)
def test_command_line_overrides(written, argv, key, value):
    read = read_settings(Path(written("seed: 3\n")), argv)[key]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learnin_rate: 1", "line 5: unknown key `learnin_rate`. Did you mean `learning_rate`?"),
        ("jepa_wieght: 1", "Did you mean `jepa_weight`?"),
        ("max_step: 2", "unknown key `max_step`"),
        ("learning_rate: fast", "line 5: `learning_rate` is 'fast'; it must be a number"),
        ("seed: 1.5", "`seed` is '1.5'; it must be a whole number"),
        ("seed: null", "`seed` is null; it must be a whole number"),
        ("seed: [1, 2]", "`seed` is .*; it must be a whole number"),
        ("seed: {a: 1}", "`seed` is .*; it must be a whole number"),
        ("use_peft: 3", "`use_peft` is '3'; it must be true or false"),
        ("jepa_loss: cosin", "`jepa_loss` is 'cosin'; it must be one of cosine, l2, mse, info_nce"),
        ("dtype: float", "one of auto, bfloat16, float16, float32 or null"),
        ("eval_strategy: never", "one of no, steps, epoch"),
        ("lora_target_modules: [[q_proj]]", "it must be a list of one or more texts or null"),
        ("lora_target_modules: []", "it must be a list of one or more texts or null"),
        ("debug: []", "it must be text or a list of one or more of underflow_overflow, tpu_metrics_debug"),
        ("jepa_objective: []", r"`jepa_objective` is \[\]; it must be one of pair, tube, .* or text or a list"),
        ("jepa_objective: [pair, [tube]]", "it must be one of pair, tube, .* or text or a list"),
        ("jepa_objective: [pair, tub]", "`jepa_objective` is 'tub'; allowed are pair, tube, .* and FILE.py:CLASS"),
        ("jepa_objective: [tube, tube]", r"recipe.yaml: `jepa_objective: \[tube, tube\]` names tube twice"),
        (
            "jepa_objective: [pair, tube]\nobjective_weights: [1, x]",
            "`objective_weights` is .*; it must be a list of one or more numbers or null",
        ),
        ("model_init_kwargs: fast", "it must be a mapping"),
        ("seed: 1\nseed: 2", "line 6: `seed` was given before, on line 5"),
        ("model_init_kwargs: {a: 1, a: 2}", "`a` was given before"),
        ("seed: 1\n\tbad: 2", "line 6: invalid YAML"),
        ("model_init_kwargs: {a: !!python/name:os.system ''}", "line 5: invalid YAML"),
        ("jepa_weight: -1", "`jepa_weight` is -1.0; it must be a finite number >= 0"),
        ("lora_r: 4", "`lora_r` would have no effect without `use_peft: true`"),
        ("load_in_4bit: true", "`load_in_4bit` .* needs `use_peft: true`"),
        ("use_peft: true\nbnb_4bit_quant_type: fp4", "`bnb_4bit_quant_type` would have no effect"),
        ("use_peft: true\nfrom_scratch: true", "`from_scratch` with `use_peft`"),
        ("from_scratch: true\nload_in_4bit: true", "`load_in_4bit` .* needs `use_peft: true`"),
        ("from_scratch: true\nuse_peft: true\nload_in_8bit: true", "`from_scratch` with `use_peft`"),
        (
            "eval_strategy: epoch\nmetric_for_best_model: eval_los",
            "`metric_for_best_model: eval_los` is not logged with `jepa_objective: pair`. Name one of loss, ",
        ),
        (
            "eval_strategy: epoch\nmetric_for_best_model: eval_jepa_loss\njepa_weight: 0",
            "`metric_for_best_model: eval_jepa_loss` is not logged with `jepa_weight: 0`",
        ),
        ("do_train: true", "`do_train` has no effect"),
        ("do_eval: false", "`do_eval` has no effect: `eval_strategy` decides"),
        ("do_predict: true", "`do_predict` has no effect: `llm-jepa eval`"),
        ("ignore_bias_buffers: true", "`ignore_bias_buffers` has no effect"),
        ("dataset_text_field: body", "`dataset_text_field` has no effect"),
        ("jepa_weight: 0\nsource_column: q\ntarget_column: a\ndataset_text_field: q", "`dataset_text_field` has no"),
    ],
)
def test_bad_recipes_are_refused_by_name(written, line, message):
    """The error says where, which key, what was given and what is allowed."""
    with pytest.raises(ValueError, match=message):
        parse_recipe([written(line + "\n")])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_step", "2"], "command line: unknown key `max_step`"),
        (["--seed", "x"], "command line: `seed` is 'x'; it must be a whole number"),
        (["--seed"], "`--seed` needs a value: a whole number"),
        (["--lr_scheduler_kwargs", "{bad"], "property name"),
        (["3"], "'3' belongs to no key"),
    ],
)
def test_bad_overrides_are_refused_by_name(written, argv, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe([written(), *argv])


def test_several_objectives_may_stand_idle(written):
    lines = "jepa_objective: [pair, tube]\nobjective_weights: [1, 2]\njepa_weight: 0\n"
    idle = parse_recipe([written(lines), "--jepa_objective", "pair"]).training
    assert (idle.jepa_objective, idle.objective_weights) == ("pair", [1.0, 2.0])


def test_the_lm_only_arm_may_name_a_column_of_text(written):
    recipe = parse_recipe([written("jepa_weight: 0\ndataset_text_field: body\n")])
    assert recipe.training.dataset_text_field == "body"


@pytest.mark.parametrize("key", ["model_name_or_path", "dataset_name", "output_dir"])
def test_required_keys(written, key):
    required = "".join(line for line in REQUIRED.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(ValueError, match=f"`{key}` must be given"):
        parse_recipe([written(required=required)])
    assert parse_recipe([written(required=required), f"--{key}", "x"]).settings[key] == "x"


@pytest.mark.parametrize("text", ["", "- a list\n", "just text\n"])
def test_a_recipe_is_a_mapping(written, text):
    with pytest.raises(ValueError, match="a recipe is a YAML mapping"):
        parse_recipe([written(required=text)])


def test_a_recipe_must_be_there():
    with pytest.raises(ValueError, match=r"There is no recipe `absent\.yaml`"):
        parse_recipe(["absent.yaml"])
    with pytest.raises(ValueError, match="No recipe given"):
        parse_recipe(["--seed", "1"])


@pytest.mark.parametrize(
    ("modules", "expected"),
    [("q_proj", ["q_proj"]), ("[q_proj]", ["q_proj"]), ("all-linear", "all-linear"), (".*[qv]_proj", ".*[qv]_proj")],
)
def test_one_lora_module_is_a_name_and_no_regular_expression(written, modules, expected):
    """PEFT matches a text against whole module paths, which the name of one module never equals."""
    assert parse_recipe([written(f"use_peft: true\nlora_target_modules: {modules}\n")]).model.lora_target_modules == (
        expected
    )


def test_the_three_configurations_share_no_key():
    """A flat recipe is possible only because no name means two things."""
    names = [{field.name for field in dataclasses.fields(of)} for of in (ScriptArguments, ModelConfig, JEPAConfig)]
    assert len(set.union(*names)) == sum(map(len, names))


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20) | st.sampled_from(
    ["null", "~", "true", "no", "1e-3", ".inf", "0x1f", "12:30", "2026-11-23", "'", " padded ", "# none", "a: b"]
)
nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
any_settings = st.fixed_dictionaries(
    {},
    optional={
        "run_name": texts | st.none(),
        "seed": st.integers(0, 2**40),
        "learning_rate": st.floats(allow_nan=False),
        "max_length": st.integers(1) | st.none(),
        "bf16": st.booleans() | st.none(),
        "jepa_loss": st.sampled_from(["cosine", "info_nce"]),
        "report_to": texts | st.lists(texts, min_size=1, max_size=3),
        "lora_target_modules": st.lists(texts, min_size=1, max_size=3),
        "model_init_kwargs": st.dictionaries(texts, nested, max_size=3),
    },
)


@given(given_settings=any_settings)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read_back(tmp_path, given_settings):
    """`recipe_text` and `read_settings` are inverses: values, types and order."""
    path = tmp_path / "resolved.yaml"
    given_settings = given_settings or {"seed": 1}
    path.write_text(recipe_text(given_settings), encoding="utf-8")
    read = read_settings(path)
    assert list(read.items()) == list(given_settings.items())
    assert repr(read) == repr(given_settings)
