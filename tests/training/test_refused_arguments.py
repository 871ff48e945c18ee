"""Arguments, models and data that the trainer cannot honour are refused."""

import logging

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig

from llm_jepa import JEPAConfig, JEPATrainer
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer
from tests.trainers import (
    PAIR_COLUMNS,
    jepa_trainer,
    settings,
    step_losses,
)

pytestmark = pytest.mark.usefixtures("deterministic")


def test_a_loss_that_compares_rows_refuses_a_last_micro_batch_of_one_row(tmp_path):
    with pytest.raises(ValueError, match=r"single row, and `jepa_regulariser: sigreg` compares rows"):
        jepa_trainer(tmp_path, jepa_regulariser="sigreg", per_device_train_batch_size=7)
    with pytest.raises(ValueError, match=r"per_device_train_batch_size.*single row"):
        jepa_trainer(tmp_path, jepa_loss="info_nce", per_device_train_batch_size=7)
    trainer = jepa_trainer(tmp_path, jepa_loss="info_nce", per_device_train_batch_size=7, dataloader_drop_last=True)
    trainer.train()
    assert len(step_losses(trainer, "jepa_loss")) == 3


@pytest.mark.parametrize("drops_last", [False, True])
def test_a_loss_that_compares_rows_refuses_an_evaluation_that_ends_in_one_row(drops_last, tmp_path):
    """Evaluations drop no row, so `dataloader_drop_last` is no remedy."""
    options = {"jepa_loss": "info_nce", "per_device_eval_batch_size": 2, "dataloader_drop_last": drops_last}
    rows = Dataset.from_list(PAIRS[:3])
    with pytest.raises(ValueError, match=r"`per_device_eval_batch_size: 2`.*single row.* Set another batch size; "):
        jepa_trainer(tmp_path, eval_dataset={"test": rows}, **options)
    with pytest.raises(ValueError, match=r"a stream and .*single row.* Set `dataset_streaming: false`, or "):
        jepa_trainer(tmp_path, eval_dataset=rows.to_iterable_dataset(), **options)


def test_arguments_without_effect_or_out_of_reach_are_errors(tmp_path):
    data = Dataset.from_list(PAIRS)
    args = JEPAConfig(**settings(tmp_path, **PAIR_COLUMNS))
    common = {"train_dataset": data, "processing_class": tiny_tokenizer()}
    with pytest.raises(ValueError, match="formatting_func"):
        JEPATrainer(tiny_llama(), args, formatting_func=lambda row: row["source"], **common)
    with pytest.raises(ValueError, match="data_collator"):
        JEPATrainer(tiny_llama(), args, data_collator=lambda rows: rows, **common)
    with pytest.raises(ValueError, match="compute_loss_func"):
        JEPATrainer(tiny_llama(), args, compute_loss_func=lambda *a, **k: None, **common)
    with pytest.raises(ValueError, match="JEPAConfig"):
        JEPATrainer(tiny_llama(), SFTConfig(**settings(tmp_path)), **common)
    args.from_scratch = True
    with pytest.raises(ValueError, match="from_scratch"):
        JEPATrainer(tiny_llama(), args, **common)


def test_an_explicit_packed_layout_on_a_recurrent_model_is_an_error_and_auto_falls_back(tmp_path, caplog):
    from transformers import Mamba2Config, Mamba2ForCausalLM

    def mamba():
        torch.manual_seed(0)
        sizes = {"vocab_size": 320, "hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1}
        tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
        return Mamba2ForCausalLM(Mamba2Config(num_hidden_layers=2, chunk_size=8, **sizes, **tokens))

    with pytest.raises(ValueError, match="packed"):
        jepa_trainer(tmp_path, model=mamba(), jepa_layout="packed")
    with caplog.at_level(logging.WARNING, logger="llm_jepa.layouts.choice"):
        trainer = jepa_trainer(tmp_path, model=mamba(), jepa_source_view="prefix", gradient_checkpointing=False)
    assert "Layout rows" in caplog.text
    trainer.train()
    assert len(step_losses(trainer, "jepa_loss")) == 3


def test_a_window_of_virtual_tokens_and_a_foreign_optimizer_are_refused(tmp_path):
    from peft import PromptTuningConfig

    with pytest.raises(ValueError, match="prompt learning"):
        jepa_trainer(tmp_path, peft_config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    model = tiny_llama()
    args = JEPAConfig(**settings(tmp_path, **PAIR_COLUMNS))
    common = {"train_dataset": Dataset.from_list(PAIRS), "processing_class": tiny_tokenizer()}
    with pytest.raises(ValueError, match="optimizer_cls_and_kwargs"):
        JEPATrainer(model, args, optimizers=(torch.optim.SGD(model.parameters()), None), **common)
    with pytest.raises(ValueError, match="dispatch_batches"):
        jepa_trainer(tmp_path, accelerator_config={"dispatch_batches": True})


def test_info_nce_refuses_an_evaluation_row_by_row_and_streams_that_may_end_in_one(tmp_path):
    rows = Dataset.from_list(PAIRS)
    with pytest.raises(ValueError, match="per_device_eval_batch_size` is 1"):
        jepa_trainer(tmp_path, jepa_loss="info_nce", per_device_eval_batch_size=1, eval_dataset=rows)
    args = JEPAConfig(**settings(tmp_path, jepa_loss="info_nce", **PAIR_COLUMNS))
    with pytest.raises(ValueError, match="a stream"):
        JEPATrainer(tiny_llama(), args, train_dataset=rows.to_iterable_dataset(), processing_class=tiny_tokenizer())


def test_weights_in_two_precisions_without_autocast_are_refused(tmp_path):
    """A copied embedding is trained in float32 and its output goes to frozen bfloat16 layers."""
    copied = LoraConfig(task_type="CAUSAL_LM", modules_to_save=["embed_tokens"], target_modules=["q_proj"])
    plain = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    with pytest.raises(ValueError, match=r"embed_tokens.* is trained in float32, .* Set it, or `dtype: float32`"):
        jepa_trainer(tmp_path, model=tiny_llama().to(torch.bfloat16), peft_config=copied)
    for peft_config, bf16 in ((plain, False), (copied, True)):
        options = {"bf16": bf16, "peft_config": peft_config, "max_steps": 1}
        jepa_trainer(tmp_path, model=tiny_llama().to(torch.bfloat16), **options).train()
