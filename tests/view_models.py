"""Tiny models that are taught the forward over views, and the same computed plainly, by separate calls of the model.

The plain computation shares nothing with the package but the weights: transformers' own forward, one sequence at a
time, with `labels` for the conversation and `output_hidden_states` for the views.

Legend: N examples, L tokens, D the model's width, K predictor tokens.
"""

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer import sft_trainer
from trl.trainer import utils as trl_utils

from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.mask_probe import probe_mask_form
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.layouts.varlen_reference import FLASH_REFERENCE
from llm_jepa.objectives.collator import JEPACollator
from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from llm_jepa.objectives.registry import new_objective
from llm_jepa.objectives.view_forward import ViewOutput
from tests.architectures import VOCABULARY_TOKENS
from tests.devices import on_device

PAD = 0
IGNORED = -100


@dataclass(frozen=True)
class Setting:
    """What of the recipe changes the forward."""

    source_view: str = "alone"
    num_predictor_tokens: int = 2
    predictor_position: str = "append"
    target: str = "online"
    direction: str = "source_to_target"
    readout: str = "last"
    target_layer: float = 1.0

    def config(self) -> JEPAConfig:
        return JEPAConfig(
            "unused",
            num_predictor_tokens=self.num_predictor_tokens,
            predictor_position=self.predictor_position,
            jepa_source_view=self.source_view,
            jepa_target=self.target,
            jepa_direction=self.direction,
            jepa_readout=self.readout,
            target_layer=self.target_layer,
        )


SETTINGS = [
    Setting(view, k, position, target)
    for view, (k, position), target in itertools.product(
        ("alone", "prefix"), ((0, "append"), (2, "append"), (2, "prepend")), ("online", "stop_gradient")
    )
]
SETTINGS += [
    Setting(view, target=target, direction="target_to_source")
    for view, target in itertools.product(("alone", "prefix"), ("online", "stop_gradient"))
]


MEANS = [
    Setting("alone", 0, readout="mean"),
    Setting("prefix", 0, target="stop_gradient", readout="mean"),
    Setting("prefix", 2, direction="target_to_source", readout="mean"),
    Setting("prefix", 2, target="stop_gradient", direction="target_to_source", readout="mean"),
    Setting("alone", 2, "prepend", "stop_gradient", readout="mean"),
]

EARLIER_LAYERS = [
    Setting("alone", 1, target_layer=0.5),
    Setting("prefix", 1, target="stop_gradient", target_layer=0.5),
    Setting("prefix", 1, direction="target_to_source", readout="mean", target_layer=0.5),
    Setting("prefix", 0, target="stop_gradient", direction="target_to_source", target_layer=0.5),
]


def rows(source_view: str) -> list[dict]:
    """Two rows of different lengths, longer than the windows, that share their first token as with a BOS.

    The target alone begins with the conversation's first token and then goes its own way.
    """
    generator = torch.Generator().manual_seed(5)

    def ids(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY_TOKENS, (length,), generator=generator).tolist()

    found = []
    for index, (source_length, target_length) in enumerate([(9, 8), (7, 4)]):
        system, source, target = ids(3), ids(source_length), ids(target_length)
        prompt = [1, *system, *source, 4]
        completion = [*target, 2]
        source_ids = [1, *system, *source] if source_view == "prefix" else [1, 5, *source]
        found.append(
            {
                "input_ids": [*prompt, *completion],
                "labels": [*[IGNORED] * len(prompt), *completion],
                "source_ids": source_ids,
                "source_start": len(source_ids) - len(source),
                "target_ids": [1, 6, *target],
                "target_start": 2,
                "row_index": index,
            }
        )
    return found


@dataclass
class Computed:
    """The forward's results and the gradients of a sum of all of them."""

    prediction_ND: Tensor
    target_ND: Tensor
    log_prob_sum: Tensor
    gradients: dict[str, Tensor]


def gradients_of(total: Tensor, model: nn.Module, predictor: PredictorTokens | None) -> dict[str, Tensor]:
    """Of every parameter that has one, the predictor's vectors under the name "vectors"."""
    parameters = dict(model.named_parameters()) | ({} if predictor is None else {"vectors": predictor.vectors_KD})
    values = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name: value for name, value in zip(parameters, values, strict=True) if value is not None}


def total_of(prediction_ND: Tensor, target_ND: Tensor, log_prob_sum: Tensor | float) -> Tensor:
    """A loss in which every number of both embeddings has a weight of its own, so that no error cancels out."""
    generator = torch.Generator().manual_seed(7)
    total = torch.as_tensor(log_prob_sum, dtype=prediction_ND.dtype)
    for embedding_ND in (prediction_ND, target_ND):
        weight_ND = torch.randn(embedding_ND.shape, generator=generator, dtype=torch.float64)
        total = total + (embedding_ND * weight_ND.to(embedding_ND)).sum()
    return total


def plain_computation(
    model: PreTrainedModel, predictor: PredictorTokens | None, setting: Setting, with_lm: bool = True
) -> Computed:
    """Separate forwards of the untouched model: no padding, no mask, no hook."""
    embed = model.get_input_embeddings()

    def ids(values: list) -> Tensor:
        return torch.tensor(values, device=model.device)

    def encode(inputs_embeds_LD: Tensor, first_read: int, depth: float = 1.0) -> Tensor:
        output = model(inputs_embeds=inputs_embeds_LD[None], output_hidden_states=True, use_cache=False)
        layer = int(depth * model.config.get_text_config().num_hidden_layers)
        return output.hidden_states[layer][0, first_read:].mean(dim=0)

    def first_read(row: dict, view: str) -> int:
        return row[f"{view}_start"] if setting.readout == "mean" else -1

    names = ("source", "target") if setting.direction == "source_to_target" else ("target", "source")
    predictions, targets, log_prob_sum = [], [], torch.zeros(())
    for row in rows(setting.source_view):
        tokens_LD = embed(ids(row[f"{names[0]}_ids"]))
        if predictor is not None:
            at = len(tokens_LD) if setting.predictor_position == "append" else row[f"{names[0]}_start"]
            vectors_KD = predictor.vectors_KD.to(tokens_LD.dtype)
            tokens_LD = torch.cat([tokens_LD[:at], vectors_KD, tokens_LD[at:]])
        predictions.append(encode(tokens_LD, -1 if predictor is not None else first_read(row, names[0])))
        with torch.set_grad_enabled(setting.target == "online"):
            targets.append(encode(embed(ids(row[f"{names[1]}_ids"])), first_read(row, names[1]), setting.target_layer))
        if with_lm:
            labels = ids([row["labels"]])
            output = model(input_ids=ids([row["input_ids"]]), labels=labels, use_cache=False)
            log_prob_sum = log_prob_sum - output.loss * (labels[:, 1:] != IGNORED).sum()
    prediction_ND, target_ND = torch.stack(predictions), torch.stack(targets)
    total = total_of(prediction_ND, target_ND, log_prob_sum)
    return Computed(prediction_ND, target_ND, log_prob_sum, gradients_of(total, model, predictor))


@dataclass
class Prepared:
    """A model with TRL's fused head and our forward."""

    model: PreTrainedModel
    predictor: PredictorTokens | None
    layout: Layout
    setting: Setting

    def inputs(self) -> dict:
        """As the trainer calls the model, on its device."""
        conversations = sft_trainer.DataCollatorForLanguageModeling(pad_token_id=PAD)
        batch = JEPACollator(conversations, self.layout, self.setting.config())(rows(self.setting.source_view))
        del batch["row_index"]
        return on_device(batch, self.model.device)

    def forward(self, **kwargs) -> ViewOutput:
        return self.model(**self.inputs(), fused_lm_head=True, **kwargs)

    def compute(self, with_lm: bool = True) -> Computed:
        output = self.forward()
        log_prob_sum = output.log_probs.sum()
        total = total_of(output.prediction_ND, output.target_ND, log_prob_sum if with_lm else 0.0)
        gradients = gradients_of(total, self.model, self.predictor)
        return Computed(output.prediction_ND, output.target_ND, log_prob_sum, gradients)


def prepared(model: PreTrainedModel, layout: Layout, form: MaskForm, setting: Setting) -> Prepared:
    """A copy of the model with TRL's head and the forward over views."""
    copied = copy.deepcopy(model)
    trl_utils.add_fused_lm_head(copied)
    return taught(copied, layout, form, setting)


def taught(model: PreTrainedModel, layout: Layout, form: MaskForm, setting: Setting) -> Prepared:
    """The model itself, which has TRL's head already, taught the forward over views."""
    predictor = None
    if setting.num_predictor_tokens:
        predictor = new_predictor(model, setting.num_predictor_tokens, seed=0).to(model.device, model.dtype)
    new_objective(setting.config()).attach(model, predictor, form)
    return Prepared(model, predictor, layout, setting)


def in_rows(model: PreTrainedModel, setting: Setting) -> Prepared:
    """With the layout `rows`."""
    return prepared(model, RowsLayout(PAD), MaskForm("padding"), setting)


def packed(
    model: PreTrainedModel, setting: Setting, form: MaskForm | None = None, break_even_tokens: int | None = None
) -> Prepared:
    """With the layout `packed`, in the form that the probe finds; with `break_even_tokens=0` in two rows."""
    form = form or probe_mask_form(model).form
    assert form is not None
    return prepared(model, PackedLayout(PAD, break_even_tokens=break_even_tokens), form, setting)


def flat(model: PreTrainedModel, setting: Setting, attention: str = FLASH_REFERENCE) -> Prepared:
    """With the layout `flat`, under what stands in for flash attention on the CPU."""
    run = prepared(model, FlatLayout(PAD), MaskForm("positions"), setting)
    run.model.config._attn_implementation = attention
    return run


def assert_agree(actual: Computed, expected: Computed, tolerance: float, with_lm: bool = True) -> None:
    """Values to `tolerance` absolutely, every gradient to `tolerance` of the largest one."""
    exactly = {"atol": tolerance, "rtol": 0.0}
    torch.testing.assert_close(actual.prediction_ND, expected.prediction_ND, **exactly)
    torch.testing.assert_close(actual.target_ND, expected.target_ND, **exactly)
    if with_lm:
        per_label = 1 / 14  # the rows have 14 labels
        difference = (actual.log_prob_sum.double() - expected.log_prob_sum.double()) * per_label
        assert abs(difference.item()) < tolerance
    assert actual.gradients.keys() == expected.gradients.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.gradients.values())
    for name, gradient in actual.gradients.items():
        error = (gradient - expected.gradients[name]).abs().max().item()
        assert error < tolerance * largest, f"{name}: off by {error:.3g}, the largest gradient is {largest:.3g}"
