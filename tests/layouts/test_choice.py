"""Which layout a model and its attention get, in the trainer and in `inspect`, and what is refused."""

import pytest
from datasets import Dataset
from transformers import PreTrainedModel

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.layouts import FlatLayout, PackedLayout, RowsLayout
from llm_jepa.layouts.choice import choose_layout
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.layouts.varlen_reference import FLASH_REFERENCE
from tests.architectures import tiny_model
from tests.tiny import PAIRS, tiny_llama, tiny_tokenizer


def with_attention(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """As if loaded with it; its kernels need not be there."""
    model.config._attn_implementation = attention
    return model


def trainer(tmp_path, attention: str, **options) -> JEPATrainer:
    args = JEPAConfig(
        str(tmp_path),
        source_column="source",
        target_column="target",
        per_device_train_batch_size=4,
        max_steps=2,
        logging_steps=1,
        learning_rate=1e-2,
        save_strategy="no",
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    model = with_attention(tiny_llama(), attention)
    return JEPATrainer(model, args, train_dataset=Dataset.from_list(PAIRS), processing_class=tiny_tokenizer())


@pytest.mark.parametrize(
    ("attention", "layout", "form"),
    [
        ("sdpa", PackedLayout, MaskForm("plain", "boolean")),
        ("eager", PackedLayout, MaskForm("plain", "additive")),
        ("flex_attention", PackedLayout, MaskForm("plain", "block")),
        ("flash_attention_2", FlatLayout, MaskForm("positions")),
        ("flash_attention_3", FlatLayout, MaskForm("positions")),
        ("kernels-community/flash-attn3", FlatLayout, MaskForm("positions")),
    ],
)
def test_auto_goes_by_the_attention(attention: str, layout: type, form: MaskForm):
    """A trie where it takes a mask, else sequences end to end."""
    chosen, chosen_form, _ = choose_layout(with_attention(tiny_model("llama"), attention), "auto", 0, 8)
    assert type(chosen) is layout
    assert chosen.pad_to_multiple_of == 8
    assert chosen_form == form


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_auto_falls_back_to_rows(attention: str, caplog):
    """And says why."""
    chosen, form, reason = choose_layout(with_attention(tiny_model("falcon-h1"), attention), "auto", 0)
    assert type(chosen) is RowsLayout
    assert form == MaskForm("padding")
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("attention", "layout", "message"),
    [
        ("sdpa", "flat", "`jepa_layout: flat` is not possible: attention `sdpa` would need a mask that grows"),
        ("eager", "flat", "`jepa_layout: flat` is not possible: attention `eager` would need a mask that grows"),
        ("flash_attention_2", "packed", "`jepa_layout: packed` is not possible: attention `flash_attention_2` takes"),
    ],
)
def test_explicit_layout_that_the_attention_cannot_take_is_refused(attention: str, layout: str, message: str):
    with pytest.raises(ValueError, match=message):
        choose_layout(with_attention(tiny_model("llama"), attention), layout, 0)


def losses(trained: JEPATrainer) -> list[tuple[float, float, float]]:
    names = ("loss", "lm_loss", "jepa_loss")
    return [tuple(entry[name] for name in names) for entry in trained.state.log_history if "lm_loss" in entry]


@pytest.mark.parametrize("target", ["online", "stop_gradient"])
@pytest.mark.parametrize("multiple", [None, 64])
def test_training_end_to_end_is_training_in_rows(target: str, multiple: int | None, tmp_path):
    """Losses of two steps, under the reference for flash attention; padded to a multiple, the targets' forward too."""
    runs = []
    for attention, layout in ((FLASH_REFERENCE, "auto"), ("sdpa", "rows")):
        run = trainer(tmp_path, attention, jepa_layout=layout, jepa_target=target, pad_to_multiple_of=multiple)
        run.train()
        runs.append(run)
    flat = runs[0]
    assert isinstance(flat.layout, FlatLayout)
    laid_out = flat.data_collator([flat.train_dataset[i] for i in range(4)])["laid_out"]
    for batch in (laid_out.batch, laid_out.detached):
        if batch is not None:
            assert batch.input_ids_RL.shape[0] == 1
            assert batch.input_ids_RL.shape[1] % (multiple or 1) == 0
    assert len(losses(flat)) == 2
    for actual, expected in zip(losses(flat), losses(runs[1]), strict=True):
        assert actual == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"jepa_layout": "rows"}, {"jepa_objective": "tube"}], ids=str)
def test_flex_attention_on_the_cpu_is_refused(options: dict, tmp_path):
    """Its backward is missing there, which would else show in the middle of the first step."""
    with pytest.raises(ValueError, match="`attn_implementation: flex_attention` has no backward on the CPU; use"):
        trainer(tmp_path, "flex_attention", **options)


def test_flex_attention_is_trls_own_affair_in_the_lm_only_arm(tmp_path):
    trainer(tmp_path, "flex_attention", jepa_weight=0.0)
