"""Values that TRL and PEFT refuse late or not at all are refused before anything heavy is imported."""

import pytest
from transformers import AttentionInterface

from llm_jepa import JEPAConfig
from llm_jepa.settings.checks import check_recipe
from llm_jepa.settings.ranges import ATTENTION_NAMES

RECIPE = "model_name_or_path: model\ndataset_name: rows.jsonl\noutput_dir: out\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("per_device_train_batch_size: 0", "`per_device_train_batch_size` is 0; it must be at least 1"),
        ("per_device_eval_batch_size: -1", "`per_device_eval_batch_size` is -1; it must be at least 1"),
        ("gradient_accumulation_steps: 0", "`gradient_accumulation_steps` is 0; it must be at least 1"),
        ("max_length: 0", "`max_length` is 0; it must be at least 1"),
        ("dataset_num_proc: 0", "`dataset_num_proc` is 0; it must be at least 1"),
        ("dataloader_num_workers: -1", "`dataloader_num_workers` is -1; it must be at least 0"),
        ("learning_rate: -1", r"`learning_rate` is -1\.0; it must be a finite number >= 0"),
        ("learning_rate: .nan", "`learning_rate` is nan"),
        ("weight_decay: -0.1", r"`weight_decay` is -0\.1"),
        ("num_train_epochs: 0", r"`num_train_epochs` is 0\.0; it must be a finite number above 0"),
        ("max_steps: 0", "`max_steps` is 0; it must be above 0, or -1 to train for `num_train_epochs`"),
        ("seed: -1", "`seed` is -1; it must be between 0 and 4294967295"),
        ("seed: 4294967296", "`seed` is 4294967296; it must be between 0 and"),
        ("max_steps: -2", "`max_steps` is -2"),
        ("use_peft: true\nlora_r: 0", "`lora_r` is 0; it must be at least 1"),
        ("use_peft: true\nlora_alpha: 0", "`lora_alpha` is 0; it must be at least 1"),
        ("use_peft: true\nlora_dropout: 1", r"`lora_dropout` is 1\.0; it must be at least 0 and below 1"),
        ("use_peft: true\nlora_task_type: SEQ_CLS", "`lora_task_type` is SEQ_CLS; it must be CAUSAL_LM"),
        ("assistant_only_loss: true", "`assistant_only_loss` has no effect"),
        ("attn_implementation: flash", "`attn_implementation` is 'flash'. Did you mean `flash_attention_"),
        ("dataset_train_split: train[:abc]", r"`dataset_train_split: train\[:abc\]` is no split"),
        ("dataset_train_split: train[10]", r"`dataset_train_split: train\[10\]` is no split"),
        ("dataset_test_split: train[80%:120%]", r"`dataset_test_split: train\[80%:120%\]` is no split"),
    ],
)
def test_a_value_out_of_its_range_is_refused(tmp_path, given, message):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{RECIPE}{given}\n")
    with pytest.raises(ValueError, match=f"{recipe}: {message}"):
        check_recipe(recipe)


def test_values_at_the_edge_are_allowed(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    for given in (
        "per_device_train_batch_size: 1\nlearning_rate: 0\nmax_grad_norm: 0\nnum_train_epochs: 0.01",
        "num_train_epochs: 0\nmax_steps: 1",
        "seed: 4294967295",
        "use_peft: true\nlora_r: 1\nlora_alpha: 1\nlora_dropout: 0\nlora_task_type: CAUSAL_LM",
        "attn_implementation: kernels-community/flash-attn2",
        "dataset_train_split: 'train[:1_000] + test[-10%:100%](closest)'\ndataset_test_split: validation.clean",
    ):
        recipe.write_text(f"{RECIPE}{given}\n")
        check_recipe(recipe)


def test_a_configuration_in_python_is_checked_too():
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` is 0"):
        JEPAConfig("out", gradient_accumulation_steps=0, use_cpu=True, bf16=False)


def test_every_attention_of_transformers_is_known():
    assert {"eager", *AttentionInterface._global_mapping} - {"flash_reference"} == {*ATTENTION_NAMES}


def test_a_tab_in_a_recipe_is_named_with_its_line(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{RECIPE}\tseed: 1\n")
    with pytest.raises(ValueError, match=r"recipe.yaml, line 4: .*tab.*spaces"):
        check_recipe(recipe)
