"""Throughput is tokens and counted FLOPs, divided by the seconds of the steps."""

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import LoHaConfig, LoraConfig, get_peft_model

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.compute.devices import find_gpu, recognise_gpu
from llm_jepa.compute.flops import ModelSize, StepCounts, model_size, step_flops
from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts import Example, LaidOut, RowsLayout
from llm_jepa.training.throughput import Throughput
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

SIZE = ModelSize(1000, 200, trained_parameters=1000, trained_head_parameters=200)
PLAIN = {
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    "labels": torch.tensor([[5, 5, 5, -100], [5, 5, -100, -100]]),  # the first label of a row is never predicted
}


def example(num_tokens: int, num_views: int = 0) -> Example:
    """A conversation of so many tokens, three of them labelled, and views of two tokens."""
    tokens, labels = TokenSequence((5,) * num_tokens, (0,) * num_tokens), [-100] * (num_tokens - 3) + [5] * 3
    return Example(tokens, labels, (TokenSequence((7, 7), (0, 0)),) * num_views)


LAYOUT = RowsLayout(0)
CONVERSATIONS = LaidOut(LAYOUT.lay_out([example(6)]))
VIEWS = LaidOut(LAYOUT.lay_out([example(6, num_views=2)]), LAYOUT.lay_out([example(4)]))


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("batch", "drops", "counts"),
    [
        (PLAIN, False, StepCounts(6, 6, 0, 3)),
        (PLAIN | {"laid_out": VIEWS}, False, StepCounts(6, 10, 4, 3)),
        (PLAIN | {"laid_out": VIEWS, "laid_out_conversations": CONVERSATIONS}, False, StepCounts(6, 10, 4, 3)),
        (PLAIN | {"laid_out": VIEWS, "laid_out_conversations": CONVERSATIONS}, True, StepCounts(6, 6, 0, 3)),
        (PLAIN | {"laid_out": CONVERSATIONS, "spans": {}}, False, StepCounts(6, 6, 0, 3)),
    ],
    ids=["sft", "pair", "kept", "dropped", "tube"],
)
def test_steps_are_timed_and_what_lies_between_them_is_not(batch, drops, counts):
    """Two steps of 2 s, of one micro-batch and of two; 100 s between them."""
    clock = Clock()
    throughput = Throughput(SIZE, 1e6, clock)
    for num_batches in (1, 2):
        throughput.begin_step()
        for _ in range(num_batches):
            throughput.add(batch, drops)
        clock.now += 2
        throughput.on_step_end()
        clock.now += 100
    logged = throughput.summary(Accelerator())
    assert logged["tokens_per_second"] == 3 * 6 / 4
    assert logged["tflops_per_second"] == pytest.approx(3 * step_flops(counts, SIZE) / 4 / 1e12)
    assert logged["flop_utilisation"] == pytest.approx(logged["tflops_per_second"] * 1e12 / 1e6)
    assert throughput.summary(Accelerator()) == {}


def test_training_logs_it(tmp_path):
    """The seconds are not known, so the ratio of tokens to FLOPs is compared."""
    args = JEPAConfig(
        str(tmp_path), source_column="source", target_column="target", max_steps=2, logging_steps=1, report_to="none",
        per_device_train_batch_size=len(PAIRS), use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rows = Dataset.from_list(PAIRS)
    trainer = JEPATrainer(tiny_llama(), args, train_dataset=rows, processing_class=tiny_tokenizer())
    batch = trainer.data_collator(list(trainer.train_dataset))
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    tokens, views = int(batch["attention_mask"].sum()), batch["laid_out"].batch
    counts = StepCounts(tokens, views.num_tokens, 0, len(views.label_positions_M))
    flops = step_flops(counts, model_size(trainer.model))
    assert len(logs) == 2
    for log in logs:
        assert log["tokens_per_second"] / (log["tflops_per_second"] * 1e12) == pytest.approx(tokens / flops)
        assert 0.05 < log["peak_memory_gib"] < 64
        assert "flop_utilisation" not in log  # no peak is known of a CPU


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H200", "h200-141gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA L4", "l4-24gb"),
        ("NVIDIA L40S", "l40s-48gb"),
        ("Tesla T4", "t4-16gb"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb"),
    ],
)
def test_a_gpu_is_recognised_by_what_cuda_calls_it(reported, name):
    assert recognise_gpu(reported) is find_gpu(name)


def test_an_unknown_gpu_is_an_error_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'h1000' is unknown\. Known are .*a100-80gb, .*h100-80gb"):
        find_gpu("h1000")
    for other in (
        "NVIDIA GeForce GTX 1080",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
    ):
        assert recognise_gpu(other) is None


def test_of_a_mixture_of_experts_the_experts_that_a_token_uses_are_counted():
    """Mixtral uses two of four experts: three matrices of 32 x 48 in each of two layers."""
    model = tiny_model("mixtral")
    all_parameters = sum(one.numel() for one in model.parameters() if one.dim() >= 2)
    outside = 2 * 48 * 32  # embeddings and head
    unused = 2 * 2 * 3 * 32 * 48
    assert model_size(model).backbone_parameters == all_parameters - outside - unused


LAYERS, RANK, WIDTH, HEAD = 2, 4, 32, 320 * 32
MATRICES = LAYERS * (4 * WIDTH**2 + 3 * WIDTH * 64 - 2 * WIDTH * 16)  # k and v have half of the heads
TRAINED_BY = {
    "lora": (LoraConfig(r=RANK, target_modules=["q_proj"], task_type="CAUSAL_LM"), 2 * RANK * WIDTH, 0, 0),
    "lora, head": (
        LoraConfig(r=RANK, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
        2 * RANK * WIDTH,
        0,
        HEAD,
    ),
    "lora, layers": (
        LoraConfig(r=RANK, target_modules=["q_proj"], modules_to_save=["down_proj"], task_type="CAUSAL_LM"),
        2 * RANK * WIDTH,
        WIDTH * 64,
        0,
    ),
    "loha": (LoHaConfig(r=RANK, target_modules=["q_proj"], task_type="CAUSAL_LM"), 4 * RANK * WIDTH, 0, 0),
}


@pytest.mark.parametrize("name", TRAINED_BY)
def test_trained_is_what_has_a_gradient_and_an_idle_original_does_not_count(name):
    """Of `modules_to_save` the trained copy computes and the original does not."""
    config, added, copied, trained_head = TRAINED_BY[name]
    size = model_size(get_peft_model(tiny_llama(), config))
    assert size.backbone_parameters == MATRICES + LAYERS * added
    assert size.trained_parameters == LAYERS * (added + copied)
    assert (size.head_parameters, size.trained_head_parameters) == (HEAD, trained_head)
