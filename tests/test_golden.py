"""The reference implementation's numbers on fixed token ids, in both layouts (tests/golden/golden.json)."""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import LlamaForCausalLM

from llm_jepa import JEPAConfig, JEPATrainer
from tests.devices import USE_CPU, on_device
from tests.tiny import tiny_tokenizer

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = json.loads((GOLDEN / "golden.json").read_text())
KINDS = {"cosine": "cosine", "l2": "l2", "mse": "mse", "infonce": "info_nce"}


@pytest.mark.parametrize("layout", ["rows", "packed"])
@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: f"{case['loss']}-{case['lam']}")
def test_total_and_gradient_norms_equal_the_reference(case, layout, tmp_path):
    args = JEPAConfig(
        output_dir=str(tmp_path),
        jepa_weight=case["lam"],
        jepa_loss=KINDS[case["loss"]],
        num_predictor_tokens=0,
        jepa_layout=layout,
        per_device_train_batch_size=4,
        bf16=False,
        use_cpu=USE_CPU,
        gradient_checkpointing=False,
        report_to="none",
    )
    trainer = JEPATrainer(
        LlamaForCausalLM.from_pretrained(GOLDEN),
        args,
        train_dataset=Dataset.from_list(REFERENCE["rows"]),
        processing_class=tiny_tokenizer(),
    )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(REFERENCE["rows"]))])
    trainer.model.train()
    total = trainer.compute_loss(trainer.model, on_device(batch))
    total.backward()

    assert total.item() == pytest.approx(case["total"], rel=1e-4)
    norms = {name: parameter.grad.norm().item() for name, parameter in trainer.model.named_parameters()}
    assert norms == pytest.approx(case["grad_norms"], rel=1e-3)
