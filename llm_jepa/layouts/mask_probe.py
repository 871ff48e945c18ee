"""Tests on a tiny copy of a model whether its architecture computes several sequences in one row exactly.

A model that ignores a mask, or a mask that overwrites a model's sliding window, is silently wrong. So no list of model
names decides. A narrow copy with the same attention and a window of a few tokens computes sequences in one row and in
rows of their own, and both must agree at every token.

Legend: R rows, L tokens of a row, T tokens compared, D the model's width.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from llm_jepa.data.views import TokenSequence
from llm_jepa.layouts import Batch, Example, FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.masks import MaskForm, MaskValues
from llm_jepa.layouts.varlen_reference import FLASH_REFERENCE

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3
_VOCABULARY_TOKENS = 64
_WINDOW_TOKENS = 5
_TINY_SIZES = {
    "vocab_size": _VOCABULARY_TOKENS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "num_attention_heads": 4,
    "head_dim": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": _VOCABULARY_TOKENS,
}
# Fields that limit the reach of attention, in distance or in number of tokens. All are made narrow, also those without
# a mask form: a lost limit shows only if it is shorter than the probe's sequences.
_REACH_FIELDS = (
    "sliding_window",
    "sliding_window_size",
    "window_size",
    "attention_window_size",
    "local_attention",
    "local_attention_window_len",
    "attention_chunk_size",
    "keep_window_size",
    "index_topk",
)
# Attention back-ends that accept an arbitrary mask -> the values of that mask.
_MASK_VALUES: dict[str, MaskValues] = {"sdpa": "boolean", "eager": "additive", "flex_attention": "block"}
# Raised by an architecture that cannot be made narrow, or that expects another kind of mask.
_ARCHITECTURE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError)


@dataclass(frozen=True)
class ProbeResult:
    """The mask form that the model supports, or None, and the reason."""

    form: MaskForm | None
    reason: str


def probe_mask_form(model: PreTrainedModel) -> ProbeResult:
    """Find the mask form under which a packed trie equals plain rows, for this model's architecture and attention.

    Runs a few forwards of a model of width 32 on the CPU; the model itself is not run.
    """
    attention = _attention(model)
    if attention not in _MASK_VALUES:
        return ProbeResult(None, f"attention `{attention}` takes no arbitrary mask ({', '.join(_MASK_VALUES)} do)")
    trial = _Trial(
        PackedLayout(pad_token_id=0), attention, attention, "branches of a packed row", "mask of four dimensions"
    )
    return _tried(model, trial)


def probe_flat_form(model: PreTrainedModel) -> ProbeResult:
    """Test whether consecutive sequences in one row equal plain rows, with this model's flash attention.

    The kernel needs a GPU, so the tiny copy uses `layouts.varlen_reference` instead. The test shows that the
    architecture mixes tokens by attention alone (no recurrent state, no convolution), uses the position ids, and
    passes the bounds, its window and its soft cap to the attention. It does not show that the kernel equals the
    reference.
    """
    attention = _attention(model)
    if not is_flash_attention_requested(requested_attention_implementation=attention):
        reason = f"attention `{attention}` would need a mask that grows with the square of the micro-batch"
        return ProbeResult(None, f"{reason} (flash attention would not)")
    if not model._supports_flash_attn:
        return ProbeResult(None, f"{type(model).__name__} does not support flash attention")
    trial = _Trial(
        FlatLayout(pad_token_id=0), "eager", FLASH_REFERENCE, "sequences of a flat row", "bounds of sequences"
    )
    return _tried(model, trial)


@dataclass(frozen=True)
class _Trial:
    """A layout to test, the attentions for the plain rows and for the layout, and nouns for the messages."""

    layout: Layout
    rows_attention: str
    attention: str
    sequences: str
    argument: str


def _attention(model: PreTrainedModel) -> str:
    return model.config._attn_implementation or "eager"


def _tried(model: PreTrainedModel, trial: _Trial) -> ProbeResult:
    example = _probe_example()
    rows_batch = RowsLayout(pad_token_id=0).lay_out([example])
    batch = trial.layout.lay_out([example])
    rows = rows_batch.backbone_inputs(MaskForm("padding"))
    try:
        tiny = _tiny_copy(model, trial.rows_attention)
        expected_RLD = _forward(tiny, rows)
    except _ARCHITECTURE_ERRORS as error:
        return ProbeResult(None, f"no tiny copy of {type(model).__name__} could be built to try it on ({error})")
    expected_TD = _compared(expected_RLD, rows_batch)
    tiny.config._attn_implementation = trial.attention
    worst: float | None = None
    for form in _candidate_forms(tiny.config, trial.attention):
        inputs = batch.backbone_inputs(form)
        try:
            actual_RLD = _forward(tiny, inputs)
        except _ARCHITECTURE_ERRORS as error:
            logger.debug("%s does not take the mask form %s: %s", type(model).__name__, form.kind, error)
            continue
        worst = (_compared(actual_RLD, batch) - expected_TD).abs().max().item()
        if worst < TOLERANCE:
            return ProbeResult(_real_form(form, model.config.get_text_config()), _reason(form, _attention(model)))
    name = f"{type(model).__name__} with attention `{_attention(model)}`"
    if worst is None:
        return ProbeResult(None, f"{name} takes no {trial.argument} with position ids")
    return ProbeResult(None, f"{name} does not keep the {trial.sequences} apart (off by {worst:.2g} on a tiny copy)")


def _reason(form: MaskForm, attention: str) -> str:
    return f"no mask, {attention}" if form.kind == "positions" else f"`{form.kind}` mask, {attention}"


def _candidate_forms(config: PretrainedConfig, attention: str) -> Iterator[MaskForm]:
    if attention not in _MASK_VALUES:
        yield MaskForm("positions")
        return
    values = _MASK_VALUES[attention]
    window = getattr(config, "sliding_window", None)
    layer_types = tuple(dict.fromkeys(getattr(config, "layer_types", None) or ()))
    yield MaskForm("plain", values)
    if window:
        yield MaskForm("windowed", values, window)
        if layer_types:
            yield MaskForm("by_layer_type", values, window, layer_types)


def _real_form(form: MaskForm, config: PretrainedConfig) -> MaskForm:
    """The tiny copy's form with the model's own window."""
    if form.window_tokens is None:
        return form
    return MaskForm(form.kind, form.values, config.sliding_window, form.layer_types)


def _tiny_copy(model: PreTrainedModel, attention: str) -> PreTrainedModel:
    """A random model of the narrow config. The global random state is unchanged."""
    config = _tiny_config(model.config.get_text_config())
    config._attn_implementation = attention
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), type(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tiny = model_class(config).float()  # not `from_config`, which shards the weights under ZeRO-3
        _spread_weights(tiny)
    return tiny.eval()


def _tiny_config(config: PretrainedConfig) -> PretrainedConfig:
    """A narrow copy: the same attention, every type of layer, and a window shorter than the probe's sequences."""
    tiny = copy.deepcopy(config)
    heads, kv_heads = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    sizes = dict(_TINY_SIZES)
    if kv_heads is not None:
        sizes["num_key_value_heads"] = 4 if kv_heads == heads else 2
    for name, value in sizes.items():
        if _is_settable(tiny, name) and getattr(tiny, name, None) is not None:
            setattr(tiny, name, value)
    for name in _REACH_FIELDS:
        if _is_settable(tiny, name) and (getattr(tiny, name, None) or 0) > 0:  # -1 and None: no limit
            setattr(tiny, name, _WINDOW_TOKENS)
    tiny.pad_token_id, tiny.bos_token_id, tiny.eos_token_id = 0, 1, 2
    layer_types = getattr(config, "layer_types", None)
    if layer_types and not _is_settable(tiny, "layer_types"):
        return tiny  # all layers, since the type of each is unknown
    if layer_types:
        kept = [layer_types.index(name) for name in dict.fromkeys(layer_types)]
        tiny.layer_types = [layer_types[i] for i in sorted(kept)] * 2
        tiny.num_hidden_layers = len(tiny.layer_types)
    else:
        tiny.num_hidden_layers = min(config.num_hidden_layers, 4)
    return tiny


def _is_settable(config: PretrainedConfig, name: str) -> bool:
    """Whether an attribute is stored and not derived from others."""
    attribute = getattr(type(config), config.attribute_map.get(name, name), None)
    return not isinstance(attribute, property) or attribute.fset is not None


def _spread_weights(model: PreTrainedModel) -> None:
    """Scale the matrices up until attention matters: with the usual initialisation all tokens look alike."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)


def _probe_example() -> Example:
    """A conversation, a branch that forks off inside it, and one that shares its first token, all longer than the
    window.

    Every prefix of a branch is a view. It adds no stored token, and makes every token a readout.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, _VOCABULARY_TOKENS, (40,), generator=generator).tolist()
    conversation = ids[:16]
    views = [[*conversation[:9], *ids[16:end]] for end in range(17, 27)]
    views += [[conversation[0], *ids[26:end]] for end in range(27, 41)]
    plain = [TokenSequence(tuple(sequence), (0,) * len(sequence)) for sequence in (conversation, *views)]
    return Example(plain[0], conversation, tuple(plain[1:]))


def _forward(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    # Compiling FlexAttention would need a C++ compiler and half a minute.
    uncompiled = torch.compiler.set_stance("force_eager")
    with uncompiled, warnings.catch_warnings(), torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        return model.base_model(**inputs, use_cache=False).last_hidden_state


def _compared(hidden_RLD: Tensor, batch: Batch) -> Tensor:
    """Hidden states of the conversation's tokens and at the readouts of the views."""
    positions_T = torch.cat([batch.conversation_positions_C, batch.view_readouts_VN.flatten()])
    return hidden_RLD.flatten(0, 1)[positions_T]
