"""Loss dropout and Semantic Tube Prediction in the trainer: what a step computes, and with which weight."""

import json

import pytest
import torch
from datasets import Dataset
from torch.utils._python_dispatch import TorchDispatchMode
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.objectives.draws import is_dropped, uniform_draws
from llm_jepa.objectives.losses import patch_loss, tube_loss
from llm_jepa.objectives.losses.semantic_tube import content_tokens
from llm_jepa.objectives.losses.span_sampling import sample_patch, sample_tube
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer

TEXTS = [{"text": f"{pair['source']} is {pair['target']}"} for pair in PAIRS]
CHAT_COLUMNS = {"source_column": "source", "target_column": "target", "system_prompt": "Write the regex."}
STP_WEIGHT = 0.02


def trainer_of(tmp_path, rows=PAIRS, **options) -> JEPATrainer:
    columns = CHAT_COLUMNS if "source" in rows[0] else {}
    common = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return JEPATrainer(
        tiny_llama(),
        JEPAConfig(**common | columns | options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )


def logged(trainer, name: str) -> list:
    """By step; None where a step logged no such value."""
    return [entry.get(name) for entry in trainer.state.log_history if "loss" in entry]


class Backbone:
    """Records the shapes of what reaches the backbone, call by call, by step."""

    def __init__(self, trainer: JEPATrainer):
        self.trainer = trainer
        self.shapes: dict[int, list[torch.Size]] = {}
        trainer.base_causal_lm.base_model.register_forward_pre_hook(self.count, with_kwargs=True)

    def count(self, backbone, args, kwargs):
        self.shapes.setdefault(self.trainer.state.global_step, []).append(kwargs["input_ids"].shape)


# --- loss dropout

SEED = next(
    seed for seed in range(100) if [is_dropped(seed, step, 0.5) for step in range(4)] == [False, True, True, False]
)


@pytest.mark.parametrize(
    ("layout", "target"), [("packed", "stop_gradient"), ("rows", "stop_gradient"), ("rows", "ema")]
)
def test_a_dropped_step_computes_no_view_token_and_logs_no_jepa(layout, target, tmp_path):
    """Two of four steps drop the term; what they compute is as wide as the conversations of their rows."""
    options = {"max_steps": 4, "seed": SEED, "jepa_target": target, "jepa_layout": layout}
    trainer = trainer_of(tmp_path, jepa_dropout=0.5, **options)
    backbone, orders = Backbone(trainer), []
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: orders.append(rows) or collate(rows)
    trainer.train()
    for step, (rows, loss) in enumerate(zip(orders, logged(trainer, "jepa_loss"), strict=False)):
        widest = max(len(row["input_ids"]) for row in rows)
        is_lm_only = backbone.shapes[step] == [(4, widest)]
        assert is_lm_only == (step in (1, 2)) == (loss is None)


def test_a_dropped_step_is_the_lm_step_and_its_predictor_moves_by_momentum_alone(tmp_path):
    """Plain SGD: after one dropped step the weights are those of the LM-only arm, and the vectors as they were."""
    seed = next(seed for seed in range(100) if is_dropped(seed, 0, 0.5))
    options = {"max_steps": 1, "seed": seed, "optim": "sgd"}
    dropped = trainer_of(tmp_path, jepa_dropout=0.5, **options)
    before = dropped.predictor.vectors_KD.detach().clone()
    dropped.train()
    lm_only = trainer_of(tmp_path, jepa_weight=0.0, **options)
    lm_only.train()
    expected = lm_only.model.state_dict()
    for name, weight in dropped.model.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=0)
    assert torch.equal(dropped.predictor.vectors_KD, before)


def test_rescaling_gives_kept_steps_the_inverse_weight(tmp_path):
    """loss = lm + 1 / (1 - 0.5) * jepa in a kept step, at a step that no weight has moved before."""
    options = {"max_steps": 1, "seed": SEED, "learning_rate": 0.0, "jepa_dropout": 0.5}
    for rescales, weight in ((False, 1.0), (True, 2.0)):
        trainer = trainer_of(tmp_path, jepa_dropout_rescale=rescales, **options)
        trainer.train()
        (loss,), (lm_loss,), (jepa_loss,) = (logged(trainer, name) for name in ("loss", "lm_loss", "jepa_loss"))
        assert loss == pytest.approx(lm_loss + weight * jepa_loss, rel=1e-5)


def test_the_logged_term_is_the_mean_over_the_steps_that_have_it(tmp_path):
    """With one log for four steps, two of them dropped; the weights stand still."""
    options = {"max_steps": 4, "seed": SEED, "learning_rate": 0.0, "jepa_dropout": 0.5}
    single = trainer_of(tmp_path, **options)
    single.train()
    kept = [value for value in logged(single, "jepa_loss") if value is not None]
    whole = trainer_of(tmp_path, **options, logging_strategy="steps", logging_steps=4)
    whole.train()
    assert len(kept) == 2
    assert logged(whole, "jepa_loss") == [pytest.approx(sum(kept) / 2, rel=1e-5)]
    assert logged(whole, "lm_loss") == [pytest.approx(sum(logged(single, "lm_loss")) / 4, rel=1e-5)]


@pytest.mark.parametrize(
    "options",
    [{"jepa_dropout": 0.5}, {"jepa_objective": "tube", "span_sampler": "uniform"}, {"shuffle_pairs": True}],
    ids=json.dumps,
)
def test_a_resumed_run_drops_and_draws_as_the_uninterrupted_one(options, tmp_path):
    options = options | {
        "seed": SEED,
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
    }
    whole = trainer_of(tmp_path / "whole", **options, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer_of(tmp_path / "resumed", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert logged(resumed, "jepa_loss")[2:] == logged(whole, "jepa_loss")[2:]
    for name, weight in resumed.model.state_dict().items():
        assert torch.equal(weight, whole.model.state_dict()[name])


def test_an_evaluation_drops_nothing(tmp_path):
    trainer = trainer_of(tmp_path, jepa_dropout=0.999)
    metrics = trainer.evaluate(Dataset.from_list(PAIRS))
    full = trainer_of(tmp_path).evaluate(Dataset.from_list(PAIRS))
    assert metrics["eval_jepa_loss"] == pytest.approx(full["eval_jepa_loss"], abs=1e-6)


# --- Semantic Tube Prediction


def hidden_states(model, row) -> torch.Tensor:
    return model(torch.tensor([row["input_ids"]]), output_hidden_states=True, use_cache=False).hidden_states[-1]


def expected_term(model, rows, objective: str, sampler: str, seed: int, step: int) -> torch.Tensor:
    """The mean over rows, each computed by itself with transformers' plain forward."""
    losses = []
    for row in rows:
        source, target = torch.tensor([row["source_span"]]), torch.tensor([row["target_span"]])
        draw_NC = uniform_draws(seed, step, torch.tensor([row["row_index"]]), 3)
        sample, loss = (sample_tube, tube_loss) if objective == "tube" else (sample_patch, patch_loss)
        spans = sample(draw_NC, content_tokens(source, target), sampler)
        losses.append(loss(hidden_states(model, row), source, target, spans))
    return torch.cat(losses).mean()


CHOICES = [("tube", "ends"), ("tube", "uniform"), ("patch", "start_first"), ("patch", "uniform")]


@pytest.mark.parametrize(("objective", "sampler"), CHOICES)
@pytest.mark.parametrize("rows", [PAIRS, TEXTS], ids=["pairs", "texts"])
def test_a_step_is_the_gradient_of_lm_and_semantic_tube_computed_apart(rows, objective, sampler, tmp_path):
    """One SGD step over two micro-batches against plain forwards row by row."""
    options = {"optim": "sgd", "max_grad_norm": 1e9, "max_steps": 1, "gradient_accumulation_steps": 2}
    trainer = trainer_of(
        tmp_path, rows, jepa_objective=objective, span_sampler=sampler, jepa_weight=STP_WEIGHT, **options
    )
    data, plain = list(trainer.train_dataset), tiny_llama()
    labels = [[-100 if i == 0 else label for i, label in enumerate(row["labels"])] for row in data]
    num_labels = sum(label != -100 for row in labels for label in row)
    lm_loss = 0.0
    for row, row_labels in zip(data, labels, strict=True):
        count = sum(label != -100 for label in row_labels)
        ids = torch.tensor([row["input_ids"]])
        lm_loss = lm_loss + plain(ids, labels=torch.tensor([row_labels])).loss * count / num_labels
    term = expected_term(plain, data, objective, sampler, trainer.args.seed, step=0)
    (lm_loss + STP_WEIGHT * term).backward()
    trainer.train()

    assert logged(trainer, "lm_loss") == [pytest.approx(lm_loss.item(), rel=1e-5)]
    assert logged(trainer, "jepa_loss") == [pytest.approx(term.item(), rel=1e-4)]
    for (name, weight), moved in zip(plain.named_parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(moved, weight - 1e-2 * weight.grad, atol=1e-6, rtol=0, msg=name)


def test_semantic_tube_computes_not_one_token_more_than_sft(tmp_path):
    shapes = []
    for weight in (0.0, STP_WEIGHT):
        trainer = trainer_of(tmp_path, jepa_objective="tube", jepa_weight=weight)
        backbone = Backbone(trainer)
        trainer.train()
        shapes.append(backbone.shapes)
        assert trainer.predictor is None
    assert shapes[0] == shapes[1]


def test_spans_are_drawn_anew_in_every_epoch_and_alike_in_every_evaluation(tmp_path):
    trainer = trainer_of(
        tmp_path, jepa_objective="tube", per_device_train_batch_size=8, learning_rate=0.0, max_steps=4
    )
    first = trainer.evaluate(Dataset.from_list(PAIRS))["eval_jepa_loss"]
    trainer.train()
    assert len(set(logged(trainer, "jepa_loss"))) == 4
    assert trainer.evaluate(Dataset.from_list(PAIRS))["eval_jepa_loss"] == pytest.approx(first, rel=1e-6)


def test_pre_tokenised_rows_bring_their_spans_or_are_one_text(tmp_path):
    row = {"input_ids": [1, 9, 10, 11, 12, 13, 2], "labels": [-100, -100, -100, 11, 12, 13, 2]}
    spans = {"source_span": [1, 3], "target_span": [4, 6]}
    given = trainer_of(tmp_path, [row | spans] * 4, jepa_objective="patch").train_dataset[0]
    assert (given["source_span"], given["target_span"]) == ([1, 3], [4, 6])
    text = trainer_of(tmp_path, [row] * 4, jepa_objective="patch").train_dataset[0]
    assert (text["source_span"], text["target_span"]) == ([1, 6], [6, 6])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"source_ids": [9], "target_ids": [11]}, r"\['source_span', 'target_span'\] are missing among"),
        ({"source_span": [0, 2], "target_span": [3, 4]}, r"Row 0: `source_span` is \[0, 2\] .* 1 <= source's start"),
        (
            {"source_span": [1, 4], "target_span": [3, 4]},
            r"Row 0: `source_span` is \[1, 4\] and `target_span`",
        ),
        ({"source_span": [1, 2], "target_span": [3, 6]}, r"<= its end <= 5, the row's tokens"),
    ],
)
def test_pre_tokenised_spans_that_cannot_be_are_refused(extra, message, tmp_path):
    row = {"input_ids": [1, 9, 10, 11, 2], "labels": [-100, -100, -100, 11, 2]}
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, [row | extra] * 4, jepa_objective="tube")


def test_rows_shorter_than_a_tube_count_nothing(tmp_path):
    """One row of a single content token beside three whole ones: the mean is over all four."""
    short = {"input_ids": [1, 9, 2], "labels": [-100, 9, 2], "source_span": [1, 2], "target_span": [2, 2]}
    long = {"input_ids": [1, *range(9, 19), 2], "labels": [-100, *range(9, 19), 2]}
    rows = [short] + [long | {"source_span": [1, 5], "target_span": [6, 11]}] * 3
    trainer = trainer_of(tmp_path, rows, jepa_objective="tube", max_steps=1)
    whole = [row for row in trainer.train_dataset if row["row_index"] > 0]
    expected = expected_term(tiny_llama(), whole, "tube", "ends", trainer.args.seed, 0) * 3 / 4
    trainer.train()
    assert logged(trainer, "jepa_loss") == [pytest.approx(expected.item(), rel=1e-4)]


# --- no waiting for the device


class HostReads(TorchDispatchMode):
    """Counts what waits for a device: values read by the host, and shapes that depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.WAITS or (name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])):
            self.found.append(name)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jepa_target": "stop_gradient", "jepa_source_view": "prefix"},
        {"jepa_loss": "info_nce_symmetric"},
        {"jepa_readout": "mean", "target_layer": 0.5},
        {"jepa_regulariser": "sigreg"},
        {"jepa_regulariser": "vicreg"},
        {"jepa_objective": "tube"},
        {"jepa_dropout": 0.99},
    ],
    ids=json.dumps,
)
def test_the_loss_waits_for_the_device_no_more_often_than_trls(options, tmp_path):
    """TRL's own compute_loss reads three numbers for its logs; ours may read those and no more.

    Whether a step is dropped is drawn on the host: one more read, of no device.
    """
    ours = trainer_of(tmp_path, **options)
    sft_rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in ours.train_dataset]
    sft = SFTTrainer(
        tiny_llama(),
        SFTConfig(str(tmp_path), bf16=False, use_cpu=True, report_to="none", gradient_checkpointing=False),
        train_dataset=Dataset.from_list(sft_rows),
        processing_class=tiny_tokenizer(),
    )
    reads = []
    for trainer in (sft, ours):
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        trainer._step_rows = 4
        with HostReads() as counted:
            trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(50))
        reads.append(counted.found)
    assert len(reads[1]) - ("jepa_dropout" in options) <= len(reads[0])
