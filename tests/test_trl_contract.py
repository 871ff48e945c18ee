"""What we touch of TRL's and transformers' internals. When one of these fails, TRL has moved."""

import inspect
from dataclasses import fields

import torch
from datasets import Dataset
from transformers import Trainer
from trl import SFTTrainer
from trl.data_utils import common_prefix_length, get_dataset_column_names
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from tests.tiny import tiny_llama


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_methods_that_the_trainer_overrides_keep_their_arguments():
    assert parameters(SFTTrainer._prepare_dataset) == [
        "self", "dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name",
    ]  # fmt: skip
    assert parameters(SFTTrainer.compute_loss) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    assert parameters(Trainer.get_batch_samples) == ["self", "epoch_iterator", "num_batches", "device"]
    assert parameters(Trainer._save) == ["self", "output_dir", "state_dict"]
    assert parameters(Trainer.save_model) == ["self", "output_dir", "_internal_call"]
    assert parameters(Trainer._load_from_checkpoint) == ["self", "resume_from_checkpoint", "model"]
    assert parameters(SFTTrainer.__init__)[:5] == ["self", "model", "args", "data_collator", "train_dataset"]
    assert "_signature_columns" in inspect.getsource(SFTTrainer._set_signature_columns_if_needed)


def test_the_fused_output_has_the_fields_that_are_read():
    assert {"log_probs", "label_mask", "aux_loss"} <= {field.name for field in fields(FusedCausalLMOutput)}


def test_the_fused_head_calls_the_base_model_and_scores_its_hidden_states_against_shifted_labels():
    """Hooks on `model.base_model` change its inputs and its last hidden state, and the head takes what it is given."""
    model = tiny_llama().eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    input_ids = torch.arange(3, 15)[None]
    labels = input_ids[:, 4:8]
    seen = {}

    def put_in(module, args, kwargs):
        seen["kwargs"] = set(kwargs)
        return args, kwargs | {"input_ids": input_ids}

    def take_out(module, args, output):
        output.last_hidden_state = output.last_hidden_state[:, 3:7]
        return output

    model.base_model.register_forward_pre_hook(put_in, with_kwargs=True)
    model.base_model.register_forward_hook(take_out)
    with torch.no_grad():
        fused = model(fused_lm_head=True, shift_labels=labels)
    assert "use_cache" in seen["kwargs"]

    plain = tiny_llama().eval()
    with torch.no_grad():
        log_probs = plain(input_ids).logits.log_softmax(-1)[:, 3:7].gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(fused.log_probs, log_probs)


def test_the_helpers_that_are_used_mean_what_they_did():
    assert common_prefix_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix_length("abc", "abd") == 2
    assert get_dataset_column_names(Dataset.from_list([{"a": 1, "b": 2}])) == ["a", "b"]
