"""The trainer: equal to TRL without JEPA, normalised over the step, and saving a plain model."""

import logging

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer, NonFiniteLossError
from llm_jepa.objectives.own_parameters import PREDICTOR_FILE
from tests.devices import USE_CPU
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("deterministic")
CHAT = [
    {
        "prompt": [{"role": "system", "content": "Write the regex."}, {"role": "user", "content": pair["source"]}],
        "completion": [{"role": "assistant", "content": pair["target"]}],
    }
    for pair in PAIRS
]
PLAIN = [{"prompt": f"{pair['source']}: ", "completion": pair["target"]} for pair in PAIRS]
TOKENISED = [
    {
        "input_ids": [1, *range(10, 20 + i), 2],
        "labels": [-100] * 6 + [*range(15, 20 + i), 2],
        "source_ids": [1, *range(10, 14 + i)],
        "target_ids": [1, *range(15, 18 + i)],
    }
    for i in range(8)
]
DATA = {"chat": CHAT, "plain": PLAIN, "tokenised": TOKENISED}
PAIR_COLUMNS = {"source_column": "source", "target_column": "target"}


def settings(tmp_path, **overrides):
    return {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 4,
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": USE_CPU,
        "report_to": "none",
        "disable_tqdm": True,
    } | overrides


def jepa_trainer(tmp_path, rows=PAIRS, model=None, **overrides):
    keywords = {key: overrides.pop(key) for key in ("peft_config", "eval_dataset", "callbacks") if key in overrides}
    columns = PAIR_COLUMNS if rows and "source" in rows[0] else {}
    return JEPATrainer(
        model if model is not None else tiny_llama(),
        JEPAConfig(**settings(tmp_path, **columns | overrides)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        **keywords,
    )


def step_losses(trainer, name="loss"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(actual, expected):
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert different == []


# --- jepa_weight = 0 is SFT


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1)], ids=["full", "lora"])
def test_weight_zero_is_trls_trainer_bit_for_bit_over_ten_steps(kind, adapter, tmp_path):
    common = settings(tmp_path, max_steps=10, gradient_accumulation_steps=2, per_device_train_batch_size=3)
    sft_rows = [{key: row[key] for key in row if key not in ("source_ids", "target_ids")} for row in DATA[kind]]
    sft = SFTTrainer(
        tiny_llama(),
        SFTConfig(**common),
        train_dataset=Dataset.from_list(sft_rows),
        processing_class=tiny_tokenizer(),
        peft_config=adapter,
    )
    sft.train()
    ours = jepa_trainer(tmp_path, DATA[kind], jepa_weight=0.0, peft_config=adapter, **common)
    ours.train()

    for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
        assert step_losses(ours, name) == step_losses(sft, name), name
    assert_same_weights(weights(ours.model), weights(sft.model))


def test_arms_of_one_seed_share_initial_weights_adapter_and_data_order(tmp_path):
    adapter = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=True)
    first_batches, initial = [], []
    for weight in (0.0, 1.0):
        trainer = jepa_trainer(tmp_path, jepa_weight=weight, peft_config=adapter, learning_rate=0.0)
        initial.append(weights(trainer.model))
        orders = []
        compute_loss = trainer.compute_loss

        def watched(model, inputs, *args, orders=orders, compute_loss=compute_loss, **kwargs):
            orders.append(inputs["row_index"].tolist())
            return compute_loss(model, inputs, *args, **kwargs)

        trainer.compute_loss = watched
        trainer.train()
        first_batches.append(orders)
    assert_same_weights(initial[0], initial[1])
    assert first_batches[0] == first_batches[1]
    assert first_batches[0] != [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]  # shuffled at all


# --- normalisation


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_one_batch_of_eight_and_a_ragged_two_by_four_give_the_same_gradient(source_view, tmp_path):
    """Micro-batches of 8, of 5 + 3 rows and of 3 + 3 + 2, whose label counts differ, take the same step."""
    after = []
    for size, accumulation in ((8, 1), (5, 2), (3, 3)):
        trainer = jepa_trainer(
            tmp_path,
            jepa_source_view=source_view,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        after.append(
            (weights(trainer.model), trainer.predictor.vectors_KD.detach().clone(), trainer.state.log_history[0])
        )
    for state, vectors_KD, log in after[1:]:
        for name, value in after[0][0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
        torch.testing.assert_close(vectors_KD, after[0][1], rtol=1e-5, atol=1e-6)
        for name in ("loss", "lm_loss", "jepa_loss", "jepa_cosine", "grad_norm"):
            assert log[name] == pytest.approx(after[0][2][name], rel=1e-5)


def test_the_loss_is_the_weighted_sum_of_its_logged_parts(tmp_path):
    trainer = jepa_trainer(tmp_path, jepa_weight=0.5, lm_weight=2.0)
    trainer.train()
    for entry in trainer.state.log_history[:3]:
        assert entry["loss"] == pytest.approx(2.0 * entry["lm_loss"] + 0.5 * entry["jepa_loss"], rel=1e-6)


def test_lm_weight_alone_scales_the_lm_only_arm(tmp_path):
    single, double = (jepa_trainer(tmp_path, jepa_weight=0.0, lm_weight=weight) for weight in (1.0, 2.0))
    for trainer in (single, double):
        trainer.train()
    assert step_losses(double)[0] == pytest.approx(2 * step_losses(single)[0], rel=1e-6)


def test_a_loss_that_compares_rows_refuses_a_last_micro_batch_of_one_row(tmp_path):
    with pytest.raises(ValueError, match=r"single row, and `jepa_regulariser: sigreg` compares rows"):
        jepa_trainer(tmp_path, jepa_regulariser="sigreg", per_device_train_batch_size=7)
    with pytest.raises(ValueError, match=r"per_device_train_batch_size.*single row"):
        jepa_trainer(tmp_path, jepa_loss="info_nce", per_device_train_batch_size=7)
    with pytest.raises(ValueError, match=r"per_device_eval_batch_size.*single row"):
        jepa_trainer(
            tmp_path, jepa_loss="info_nce", per_device_eval_batch_size=2, eval_dataset=Dataset.from_list(PAIRS[:3])
        )
    trainer = jepa_trainer(tmp_path, jepa_loss="info_nce", per_device_train_batch_size=7, dataloader_drop_last=True)
    trainer.train()
    assert len(step_losses(trainer, "jepa_loss")) == 3


# --- predictor tokens


@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM")], ids=["full", "lora"])
def test_predictor_tokens_are_distinct_trained_saved_beside_checkpoints_and_absent_from_what_ships(adapter, tmp_path):
    trainer = jepa_trainer(
        tmp_path, num_predictor_tokens=3, save_strategy="steps", save_steps=3, peft_config=adapter, max_steps=3
    )
    start_KD = trainer.predictor.vectors_KD.detach().clone()
    trainer.train()
    trainer.save_model()

    moved_K = (trainer.predictor.vectors_KD - start_KD).abs().amax(dim=1)
    assert (torch.pdist(start_KD) > 0.1).all()
    assert (moved_K > 0).all()
    saved = load_file(tmp_path / "checkpoint-3" / PREDICTOR_FILE)
    assert torch.equal(saved["vectors_KD"], trainer.predictor.vectors_KD)
    assert not (tmp_path / PREDICTOR_FILE).exists()
    shipped = load_file(tmp_path / ("model.safetensors" if adapter is None else "adapter_model.safetensors"))
    assert not [name for name in shipped if "predictor" in name]
    assert not [name for name in trainer.model.state_dict() if "predictor" in name]


def test_the_shipped_model_and_adapter_load_with_plain_transformers_and_peft(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    full = jepa_trainer(tmp_path / "full", model=base)
    lora = jepa_trainer(tmp_path / "lora", model=base, peft_config=LoraConfig(task_type="CAUSAL_LM"))
    inputs = {"input_ids": torch.arange(3, 13)[None]}
    for trainer, auto_class in ((full, AutoModelForCausalLM), (lora, AutoPeftModelForCausalLM)):
        trainer.train()
        trainer.save_model()
        loaded, info = (
            auto_class.from_pretrained(trainer.args.output_dir, output_loading_info=True)
            if auto_class is AutoModelForCausalLM
            else (auto_class.from_pretrained(trainer.args.output_dir), None)
        )
        assert info is None or not (info["missing_keys"] or info["unexpected_keys"])
        trainer.model.eval()
        with torch.no_grad():
            torch.testing.assert_close(loaded(**inputs).logits, trainer.model(**inputs).logits)


def test_a_resumed_run_draws_the_spans_that_it_would_have_drawn(tmp_path):
    common = {"jepa_objective": "tube", "span_sampler": "uniform", "save_strategy": "steps", "save_steps": 3}
    whole = jepa_trainer(tmp_path / "run", max_steps=6, **common)
    whole.train()
    resumed = jepa_trainer(tmp_path / "run", max_steps=6, **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert step_losses(resumed, "jepa_loss") == step_losses(whole, "jepa_loss")
    assert_same_weights(weights(resumed.model), weights(whole.model))


@pytest.mark.parametrize("adapter", [None, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1)], ids=["full", "lora"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(adapter, tmp_path):
    common = {"num_predictor_tokens": 2, "save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = jepa_trainer(tmp_path / "run", peft_config=adapter, **common)
    whole.train()
    resumed = jepa_trainer(tmp_path / "run", peft_config=adapter, **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))

    assert_same_weights(weights(resumed.model), weights(whole.model))
    assert torch.equal(resumed.predictor.vectors_KD, whole.predictor.vectors_KD)
    assert step_losses(resumed)[-3:] == step_losses(whole)[-3:]
    assert step_losses(resumed, "jepa_loss")[-3:] == step_losses(whole, "jepa_loss")[-3:]


def test_a_checkpoint_with_another_number_of_predictor_tokens_is_refused(tmp_path):
    jepa_trainer(tmp_path, num_predictor_tokens=2, save_strategy="steps", save_steps=2).train()
    other = jepa_trainer(tmp_path, num_predictor_tokens=3)
    with pytest.raises(ValueError, match=r"`vectors_KD` \(2, 32\); .*`num_predictor_tokens`"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


# --- precision


def test_trained_weights_are_fp32_whatever_the_model_was_loaded_in(tmp_path):
    trainer = jepa_trainer(tmp_path, model=tiny_llama().to(torch.bfloat16))
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}


def test_qlora_trains_fp32_adapters_and_predictor_tokens_on_a_4_bit_model(tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    base = save_tiny_model(tmp_path / "base", hidden_size=64)
    trainer = JEPATrainer(
        base,
        JEPAConfig(**settings(tmp_path / "out", **PAIR_COLUMNS)),
        train_dataset=Dataset.from_list(PAIRS),
        quantization_config=quantization,
        peft_config=LoraConfig(task_type="CAUSAL_LM"),
    )
    start_KD = trainer.predictor.vectors_KD.detach().clone()
    trainable = {name: parameter for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert {parameter.dtype for parameter in trainable.values()} == {torch.float32}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    trainer.train()
    assert trainer.model.get_base_model().is_loaded_in_4bit
    assert not torch.equal(trainer.predictor.vectors_KD, start_KD)
    unmoved = [name for name, parameter in trainable.items() if torch.equal(parameter, before[name])]
    assert unmoved == []


# --- logs


def test_logs_hold_the_parts_and_the_diagnostics_beside_trls_own(tmp_path):
    trainer = jepa_trainer(tmp_path, eval_dataset=Dataset.from_list(PAIRS[:5]), eval_strategy="steps", eval_steps=2)
    trainer.train()
    ours = {"loss", "lm_loss", "jepa_loss", "jepa_cosine", "jepa_cosine_unpaired", "jepa_effective_rank"}
    trls = {"entropy", "mean_token_accuracy", "num_tokens", "grad_norm", "learning_rate"}
    first, evaluation = trainer.state.log_history[0], next(e for e in trainer.state.log_history if "eval_loss" in e)
    assert ours | trls | {"jepa_retrieval_at_1"} <= first.keys()
    parts = {f"eval_{name}" for name in ours - {"loss", "lm_loss"}} | {"eval_jepa_retrieval_at_1"}
    assert parts | {"eval_loss"} <= evaluation.keys()


class _Tracker(TrainerCallback):
    """Records what a tracker of `report_to` receives."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def test_a_tracker_is_given_the_parts_and_the_diagnostics(tmp_path):
    tracker = _Tracker()
    jepa_trainer(tmp_path, callbacks=[tracker]).train()
    wanted = {"loss", "lm_loss", "jepa_loss", "jepa_cosine", "jepa_cosine_unpaired", "jepa_retrieval_at_1"}
    assert [wanted - logs.keys() for logs in tracker.seen[:3]] == [set()] * 3


def test_evaluate_returns_the_jepa_parts_so_that_the_best_checkpoint_can_go_by_them(tmp_path):
    metrics = jepa_trainer(tmp_path, eval_dataset=Dataset.from_list(PAIRS)).evaluate()
    assert metrics["eval_jepa_cosine"] == pytest.approx(1 - metrics["eval_jepa_loss"], abs=1e-6)


def test_each_evaluation_set_is_logged_under_its_own_name_and_a_prediction_is_part_of_none(tmp_path):
    sets = {"first": Dataset.from_list(PAIRS[:3]), "second": Dataset.from_list(PAIRS[3:])}
    trainer = jepa_trainer(tmp_path, eval_dataset=sets, prediction_loss_only=True)
    expected = trainer.evaluate()
    assert {f"eval_{name}_{part}" for name in sets for part in ("jepa_loss", "jepa_cosine_unpaired")} <= set(expected)
    assert "eval_jepa_loss" not in expected
    trainer.predict(trainer.train_dataset)
    after = trainer.evaluate()
    for name in ("eval_first_jepa_loss", "eval_second_jepa_loss", "eval_first_jepa_effective_rank"):
        assert after[name] == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_predict_takes_the_rows_that_evaluate_takes(tmp_path, weight):
    """Raw ones, and ones that are prepared already."""
    trainer = jepa_trainer(tmp_path, jepa_weight=weight, prediction_loss_only=True)
    expected = trainer.evaluate(Dataset.from_list(PAIRS))["eval_loss"]
    for rows in (Dataset.from_list(PAIRS), trainer.train_dataset):
        assert trainer.predict(rows).metrics["test_loss"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"Row 0: the target is empty"):
        trainer.predict(Dataset.from_list([{"source": "a", "target": ""}]))


def test_eval_loss_is_the_lm_loss_of_the_same_weights(tmp_path):
    rows = Dataset.from_list(PAIRS[:4])
    arms = [jepa_trainer(tmp_path, eval_dataset=rows, jepa_weight=weight) for weight in (0.0, 1.0)]
    losses = [trainer.evaluate()["eval_loss"] for trainer in arms]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_logging_interval_averages_over_its_steps(tmp_path):
    every = jepa_trainer(tmp_path, max_steps=4, logging_steps=1)
    pairs = jepa_trainer(tmp_path, max_steps=4, logging_steps=2)
    for trainer in (every, pairs):
        trainer.train()
    for name in ("loss", "lm_loss", "jepa_loss", "jepa_cosine"):
        single = step_losses(every, name)
        assert step_losses(pairs, name)[:2] == pytest.approx([sum(single[:2]) / 2, sum(single[2:4]) / 2], rel=1e-5)


def test_collapsed_embeddings_are_warned_of_once(tmp_path, caplog):
    alike = [PAIRS[0]] * 72
    with caplog.at_level(logging.WARNING, logger="llm_jepa.trainer"):
        jepa_trainer(tmp_path, alike, per_device_train_batch_size=24, max_steps=5, learning_rate=0.0).train()
    warnings = [record for record in caplog.records if "collapsed" in record.message]
    assert len(warnings) == 1
    assert "effective rank 1.00" in warnings[0].message


class _Poison(TrainerCallback):
    """Makes a weight NaN before the third step, after the checkpoint of the second."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.get_input_embeddings().weight.data[5] = float("nan")


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_nan_loss_stops_the_run_keeps_the_checkpoint_and_names_the_batch(weight, tmp_path):
    rows = [{**row, "input_ids": [*row["input_ids"][:3], 5, *row["input_ids"][3:]]} for row in TOKENISED]
    rows = [{**row, "labels": [-100, *row["labels"]]} for row in rows]
    trainer = jepa_trainer(
        tmp_path, rows, jepa_weight=weight, save_strategy="steps", save_steps=2, callbacks=[_Poison()], max_steps=4
    )
    with pytest.raises(NonFiniteLossError, match=r"nan .*step 3.*rows \[\d, \d, \d, \d\]"):
        trainer.train()
    kept = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


# --- data


def test_a_stream_trains_as_the_same_rows_in_memory(tmp_path):
    losses = []
    for rows in (Dataset.from_list(PAIRS), Dataset.from_list(PAIRS).to_iterable_dataset()):
        args = JEPAConfig(**settings(tmp_path, max_steps=2, train_sampling_strategy="sequential", **PAIR_COLUMNS))
        trainer = JEPATrainer(tiny_llama(), args, train_dataset=rows, processing_class=tiny_tokenizer())
        trainer.train()
        losses.append((step_losses(trainer), step_losses(trainer, "jepa_loss")))
    assert losses[1] == losses[0]


# --- what cannot be honoured


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


def test_from_scratch_takes_the_config_and_leaves_the_weights(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    common = {"train_dataset": Dataset.from_list(PAIRS)}
    arms = [
        JEPATrainer(
            base, JEPAConfig(**settings(tmp_path, from_scratch=True, jepa_weight=weight, **PAIR_COLUMNS)), **common
        )
        for weight in (0.0, 1.0)
    ]
    trained = AutoModelForCausalLM.from_pretrained(base)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(arms[0].model.state_dict()[name], trained.state_dict()[name])
    assert_same_weights(weights(arms[0].model), weights(arms[1].model))


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


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_padding_to_a_multiple_changes_no_loss(layout, tmp_path):
    logs = []
    for multiple in (None, 64):
        trainer = jepa_trainer(tmp_path, jepa_layout=layout, jepa_target="stop_gradient", pad_to_multiple_of=multiple)
        laid_out = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])["laid_out"]
        lengths = [part.input_ids_RL.shape[1] for part in (laid_out.batch, laid_out.detached)]
        assert multiple is None or [length % multiple for length in lengths] == [0, 0]
        trainer.train()
        logs.append(step_losses(trainer))
    assert logs[1] == pytest.approx(logs[0], rel=1e-5)


class _InfiniteGradient(TrainerCallback):
    """Makes a gradient infinite in the third step, with a finite loss."""

    def on_substep_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.get_input_embeddings().weight.grad[5] = float("inf")


def test_an_infinite_gradient_stops_the_run_before_the_weights_change(tmp_path):
    trainer = jepa_trainer(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, callbacks=[_InfiniteGradient()]
    )
    with pytest.raises(NonFiniteLossError, match=r"gradient.* step 3.* rows \[(\d, ){3}\d\]"):
        trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_4_bit_weights_still_train_after_an_evaluation(tmp_path):
    """bitsandbytes repacks them on CPUs with AVX512-BF16; on others this shows only that they train."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")
    trainer = JEPATrainer(
        save_tiny_model(tmp_path / "base", hidden_size=64),
        JEPAConfig(**settings(tmp_path / "out", **PAIR_COLUMNS)),
        train_dataset=Dataset.from_list(PAIRS),
        eval_dataset=Dataset.from_list(PAIRS),
        quantization_config=quantization,
        peft_config=LoraConfig(task_type="CAUSAL_LM"),
    )
    trainable = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    trainer.evaluate()
    trainer.train()
    assert [name for name, parameter in trainable.items() if torch.equal(parameter, before[name])] == []
