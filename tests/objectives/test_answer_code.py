"""`answer_code`: the same in every layout as by plain forwards, and what each of its two terms trains."""

import copy

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer import sft_trainer
from trl.trainer import utils as trl_utils

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.data.partners import PARTNER_COLUMN
from llm_jepa.layouts import FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.mask_probe import probe_mask_form
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.layouts.varlen_reference import FLASH_REFERENCE
from llm_jepa.objectives.answer_autoencoder import WIDTH
from llm_jepa.objectives.answer_code import AnswerCodePredictor
from llm_jepa.objectives.collator import JEPACollator
from llm_jepa.objectives.registry import new_objective
from llm_jepa.training.throughput import count_batch
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer
from tests.view_models import PAD, rows

COLUMNS = {"source_column": "source", "target_column": "target"}


def config(**options) -> JEPAConfig:
    return JEPAConfig("unused", jepa_objective="answer_code", report_to="none", **options)


def plain_terms(model, predictor: AnswerCodePredictor, args: JEPAConfig) -> tuple[Tensor, Tensor]:
    """code_N and reconstruction_N, row by row, by plain forwards and without padding."""
    predicting, predicted = args.jepa_direction.split("_to_")
    embed, vectors_KD = model.get_input_embeddings(), predictor.tokens.vectors_KD
    codes, reconstructions = [], []
    for row in rows(args.jepa_source_view):
        inputs_LD = torch.cat([embed(torch.tensor(row[f"{predicting}_ids"])), vectors_KD])
        output = model(inputs_embeds=inputs_LD[None], output_hidden_states=True, use_cache=False)
        hidden_LD = output.hidden_states[-1][0]
        token_1T = torch.tensor([row[f"{predicted}_ids"][row[f"{predicted}_start"] :]])
        code_1KC, loss_1 = predictor.autoencoder(token_1T, torch.ones_like(token_1T, dtype=torch.bool))
        difference_KC = predictor.to_code(hidden_LD[-len(vectors_KD) :]) - code_1KC[0].detach()
        codes.append(difference_KC.square().mean())
        reconstructions.append(loss_1[0])
    return torch.stack(codes), torch.stack(reconstructions)


def laid_out_terms(model, predictor, args: JEPAConfig, layout: Layout, form: MaskForm) -> dict[str, Tensor]:
    """The terms of one forward in a layout."""
    trl_utils.add_fused_lm_head(model)
    new_objective(args).attach(model, predictor, form)
    conversations = sft_trainer.DataCollatorForLanguageModeling(pad_token_id=PAD)
    batch = JEPACollator(conversations, layout, args)(rows(args.jepa_source_view))
    output = model(laid_out=batch["laid_out"], fused_lm_head=True)
    assert output.target_ND is None
    return output.terms


def gradients(total: Tensor, *modules) -> dict[str, Tensor | None]:
    named = {f"{i} {name}": value for i, module in enumerate(modules) for name, value in module.named_parameters()}
    return dict(zip(named, torch.autograd.grad(total, [*named.values()], allow_unused=True), strict=True))


@pytest.mark.parametrize("layout", ["rows", "packed", "two rows", "flat"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_all_layouts_give_the_terms_and_gradients_of_plain_forwards(architecture, layout):
    model = tiny_model(architecture)
    layouts = {
        "rows": (RowsLayout(PAD), MaskForm("padding")),
        "packed": (PackedLayout(PAD), probe_mask_form(model).form),
        "two rows": (PackedLayout(PAD, break_even_tokens=0), probe_mask_form(model).form),
        "flat": (FlatLayout(PAD), MaskForm("positions")),
    }
    for view, direction, k in (
        ("alone", "source_to_target", 2),
        ("prefix", "source_to_target", 1),
        ("prefix", "target_to_source", 3),
    ):
        args = config(jepa_source_view=view, jepa_direction=direction, num_predictor_tokens=k)
        predictor = new_objective(args).new_predictor(model)
        weight_N = torch.tensor([1.0, -0.7])
        code_N, reconstruction_N = plain_terms(model, predictor, args)
        expected = gradients((weight_N * (code_N + 0.5 * reconstruction_N)).sum(), model, predictor)
        copied = copy.deepcopy(model)
        if layout == "flat":
            copied.config._attn_implementation = FLASH_REFERENCE
        terms = laid_out_terms(copied, predictor, args, *layouts[layout])
        torch.testing.assert_close(terms["code_N"], code_N, atol=1e-4, rtol=0)
        torch.testing.assert_close(terms["reconstruction_N"], reconstruction_N, atol=1e-4, rtol=0)
        total = (weight_N * (terms["code_N"] + 0.5 * terms["reconstruction_N"])).sum()
        for name, value in gradients(total, copied, predictor).items():
            assert (value is None) == (expected[name] is None), name
            if value is not None:
                torch.testing.assert_close(value, expected[name], atol=1e-4, rtol=1e-3, msg=name)


def test_the_prediction_trains_the_model_and_the_reconstruction_the_autoencoder():
    args, model = config(num_predictor_tokens=2), tiny_model("llama")
    predictor = new_objective(args).new_predictor(model)
    terms = laid_out_terms(model, predictor, args, RowsLayout(PAD), MaskForm("padding"))
    by_code = gradients(terms["code_N"].sum(), model.base_model, predictor)
    moved = {name for name, value in by_code.items() if value is not None and value.any()}
    assert {name for name in by_code if name.startswith("0 ")} <= moved
    assert {name for name in moved if name.startswith("1 ")} == {
        "1 tokens.vectors_KD", "1 to_code.weight", "1 to_code.bias"
    }  # fmt: skip
    terms = laid_out_terms(model, predictor, args, RowsLayout(PAD), MaskForm("padding"))
    by_reconstruction = gradients(terms["reconstruction_N"].sum(), model.base_model, predictor)
    moved = {name for name, value in by_reconstruction.items() if value is not None and value.any()}
    assert {name.split(".")[0] for name in moved} == {"1 autoencoder"}


def trainer_of(tmp_path, **options) -> JEPATrainer:
    settings = {"max_steps": 1, "logging_steps": 1, "save_strategy": "no", "bf16": False, "use_cpu": True}
    settings |= {"report_to": "none", "per_device_train_batch_size": 4, "learning_rate": 1e-2, "disable_tqdm": True}
    return JEPATrainer(
        tiny_llama(),
        JEPAConfig(str(tmp_path), jepa_objective="answer_code", **settings | COLUMNS | options),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tiny_tokenizer(),
    )


def test_the_loss_is_the_weighted_sum_of_what_is_logged(tmp_path):
    trainer = trainer_of(tmp_path, reconstruction_weight=0.25, jepa_weight=2.0)
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["jepa_loss"] == pytest.approx(log["jepa_code"] + 0.25 * log["jepa_reconstruction"], rel=1e-5)
    assert log["loss"] == pytest.approx(log["lm_loss"] + 2 * log["jepa_loss"], rel=1e-4)


@pytest.mark.parametrize("direction", ["source_to_target", "target_to_source"])
def test_the_autoencoder_is_charged_for_the_tokens_of_the_predicted_view(direction, tmp_path):
    """6 FLOPs for each parameter that a token meets: two layers of 12 E^2, and V E of the table; no special tokens.

    Each of the two codes meets the layers.
    """
    trainer = trainer_of(tmp_path, jepa_direction=direction, num_predictor_tokens=2)
    counts = count_batch(trainer.data_collator([*trainer.train_dataset]), drops_jepa=False)
    predicted, tokenizer = direction.split("_to_")[1], tiny_tokenizer()
    tokens = sum(len(tokenizer(pair[predicted], add_special_tokens=False)["input_ids"]) for pair in PAIRS)
    size = trainer.throughput.size
    charged = trainer.throughput.extra_flops(counts, size)
    assert charged == 6 * (2 * 12 * WIDTH**2 * (tokens + 2 * len(PAIRS)) + 320 * WIDTH * tokens)


def test_shuffled_pairs_have_the_codes_of_their_partners(tmp_path):
    trainer = trainer_of(tmp_path, shuffle_pairs=True)
    dataset, tokenizer = trainer.train_dataset, tiny_tokenizer()
    target_ids_NT = trainer.data_collator([*dataset])["laid_out"].target_ids_NT
    texts = [tokenizer.decode(ids[ids >= 0]) for ids in target_ids_NT]
    assert texts == [PAIRS[row[PARTNER_COLUMN]]["target"] for row in dataset]
    assert all(row[PARTNER_COLUMN] != row["row_index"] for row in dataset)


def test_the_codes_come_to_tell_the_targets_apart_and_are_predicted(tmp_path):
    trainer = trainer_of(tmp_path, max_steps=40, per_device_train_batch_size=8, jepa_source_view="prefix")
    trainer.train()
    first, last = (trainer.state.log_history[i] for i in (0, -2))
    assert last["jepa_reconstruction"] < 0.1 * first["jepa_reconstruction"]
    assert last["jepa_code"] < 0.5  # the codes have variance 1: a constant would be off by 1
