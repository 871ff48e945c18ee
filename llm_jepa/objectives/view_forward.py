"""One forward of a causal LM over a laid-out batch: the conversation's log-probabilities, the views' embeddings, and
what an objective computes within it.

TRL's fused LM head calls the backbone, then scores hidden states. Three hooks change that call:
- before the backbone: its inputs become the laid-out batch;
- after it: all hidden states are kept, and the head gets those of the labelled positions, without view tokens. The
  router loss of a mixture of experts gets the conversation alone;
- after the embedding layer: the predictor's vectors are inserted. The backbone still gets token ids, which some models
  use for more than the embedding (Gemma 3n and 4 in every layer).

Legend: R rows, L tokens of a row, P = R * L flat positions, N examples, S tokens of the longest conversation,
T tokens of the longest mean, M labelled positions, D width, E experts.
"""

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from llm_jepa.layouts import Batch, LaidOut
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.conversations import Conversations, conversation_rows, conversations_of
from llm_jepa.objectives.predictor import PredictorTokens

ForwardTerms: TypeAlias = Callable[[PreTrainedModel, Conversations], dict[str, Tensor]]
"""Computes tensors from the conversations within the model's forward, where a launcher has gathered the weights."""


@dataclass
class ViewOutput(FusedCausalLMOutput):
    """TRL's output with what an objective asks for: the views' embeddings, the hidden states of the conversations,
    and the tensors that it has computed within the forward.

    They are part of the output because a launcher's wrapper must see every tensor that the loss depends on.
    """

    prediction_ND: Tensor | None = None
    target_ND: Tensor | None = None
    hidden_NSD: Tensor | None = None
    terms: dict[str, Tensor] | None = None


@dataclass
class _Pass:
    """The inputs and the hidden states of one pass of the backbone, shared by the hooks."""

    inputs: dict[str, Any]
    batch: Batch
    hidden_PD: Tensor | None = None
    target_hidden_PD: Tensor | None = None
    embedding_PD: Tensor | None = None


class ViewForward:
    """Adds two calls to a model: `model(..., laid_out=..., fused_lm_head=True)`, and `targets_only=True` for the
    detached targets alone, embedding_ND. Every other call is unchanged.

    Args:
        model: A causal LM that TRL has given its fused LM head.
        predictor: The predictor tokens, or None for k = 0.
        mask_form: The form in which the model takes the layout's mask.
        stops_gradient: Whether the target is detached, so that no gradient flows through it.
        target_layer: The number of layers after which the target is read; None for all, and the final norm.
        gives_hidden_states: Whether the output has the hidden states of the conversations.
        forward_terms: What an objective computes within the forward; None for nothing.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        predictor: PredictorTokens | None,
        mask_form: MaskForm,
        stops_gradient: bool,
        target_layer: int | None = None,
        gives_hidden_states: bool = False,
        forward_terms: ForwardTerms | None = None,
    ):
        self.forward_terms = forward_terms
        self.target_layer = target_layer
        self.gives_hidden_states = gives_hidden_states
        self.predictor = predictor
        self.mask_form = mask_form
        self.stops_gradient = stops_gradient
        self._pass: _Pass | None = None
        self._fused_forward = model.forward
        backbone = model.base_model
        backbone.register_forward_pre_hook(self._replace_inputs, with_kwargs=True)
        backbone.register_forward_hook(self._keep_hidden_states)
        embed = model.get_input_embeddings()
        assert isinstance(embed, nn.Module)
        if forward_terms is not None:
            embed.register_forward_hook(self._keep_embeddings)  # before any noise that training adds
        if predictor is not None:
            embed.register_forward_hook(self._insert_vectors)
        model.forward = types.MethodType(self._bind(type(model)), model)

    def _bind(self, model_class: type[PreTrainedModel]):
        @functools.wraps(model_class.forward)  # `generate` and PEFT read the signature
        def forward(
            model: PreTrainedModel,
            *args: Any,
            laid_out: LaidOut | None = None,
            targets_only: bool = False,
            **kwargs: Any,
        ):
            if laid_out is not None and targets_only:
                return self._detached_targets(model.base_model, laid_out.detached)
            if laid_out is None or not kwargs.get("fused_lm_head"):
                return self._fused_forward(*args, **kwargs)
            return self(model, laid_out, kwargs.get("output_router_logits", False))

        return forward

    def __call__(
        self,
        model: PreTrainedModel,
        laid_out: LaidOut,
        output_router_logits: bool,
    ) -> ViewOutput:
        """Compute the batch and, if there are any, the detached targets, unless they have been computed before."""
        batch = laid_out.batch
        has_views = len(batch.view_readouts_VN) > 0
        form = self.mask_form if has_views else batch.unshared_form
        inputs = batch.backbone_inputs(form)
        if has_views and laid_out.detached is None:
            inputs |= self._layer_request()
        self._pass = _Pass(inputs, batch)
        try:
            router = {"output_router_logits": True} if output_router_logits else {}
            outputs = self._fused_forward(fused_lm_head=True, shift_labels=batch.label_ids_M[None], **router)
            hidden_PD, target_hidden_PD = self._pass.hidden_PD, self._pass.target_hidden_PD
            embedding_PD = self._pass.embedding_PD
        finally:
            self._pass = None
        assert hidden_PD is not None, "TRL's fused head no longer calls model.base_model"
        asked: dict[str, Any] = {}
        if self.gives_hidden_states:
            asked["hidden_NSD"] = conversation_rows(batch, hidden_PD)
        if self.forward_terms is not None:
            num_tokens = 0 if self.predictor is None else self.predictor.num_tokens
            assert embedding_PD is not None, "the backbone calls its embedding layer"
            conversations = conversations_of(laid_out, hidden_PD, embedding_PD, num_tokens)
            asked["terms"] = self.forward_terms(model, conversations)
        if not has_views:
            return ViewOutput(**outputs, **asked)
        prediction_ND, target_ND = embeddings(hidden_PD, batch, 1), laid_out.target_ND
        if target_ND is None and laid_out.detached is not None:
            target_ND = self._detached_targets(model.base_model, laid_out.detached)
        elif len(batch.view_readouts_VN) > 1:
            target_ND = embeddings(hidden_PD if target_hidden_PD is None else target_hidden_PD, batch, 2)
            target_ND = target_ND.detach() if self.stops_gradient else target_ND
        return ViewOutput(**outputs, **asked, prediction_ND=prediction_ND, target_ND=target_ND)

    @torch.no_grad()
    def _detached_targets(self, backbone: nn.Module, batch: Batch | None) -> Tensor:
        """Embeddings of targets laid out as conversations, in rows or flat: embedding_ND."""
        assert batch is not None, "the objective has not laid the targets out on their own"
        inputs = batch.backbone_inputs(batch.unshared_form) | self._layer_request()
        output = backbone(**inputs, use_cache=False)
        return embeddings(self._target_hidden_states(output).flatten(0, 1), batch, 0)

    def _layer_request(self) -> dict[str, Any]:
        """The argument by which the backbone keeps the hidden state that the target is read from."""
        return {} if self.target_layer is None else {"output_hidden_states": [self.target_layer]}

    def _target_hidden_states(self, output: Any) -> Tensor:
        return output.last_hidden_state if self.target_layer is None else output.hidden_states[self.target_layer]

    def _replace_inputs(self, backbone: nn.Module, args: tuple, kwargs: dict[str, Any]):
        if self._pass is None:
            return None
        return args, kwargs | self._pass.inputs

    def _keep_embeddings(self, embed: nn.Module, args: tuple, embeddings_RLD: Tensor) -> None:
        if self._pass is not None:
            self._pass.embedding_PD = embeddings_RLD.flatten(0, 1)

    def _insert_vectors(self, embed: nn.Module, args: tuple, embeddings_RLD: Tensor):
        if self._pass is None:
            return None
        assert self.predictor is not None
        return self.predictor(embeddings_RLD, self._pass.batch.slots_RL)

    def _keep_hidden_states(self, backbone: nn.Module, args: tuple, output: Any):
        if self._pass is None:
            return None
        batch = self._pass.batch
        hidden_PD = output.last_hidden_state.flatten(0, 1)
        self._pass.hidden_PD = hidden_PD
        if "output_hidden_states" in self._pass.inputs:
            self._pass.target_hidden_PD = self._target_hidden_states(output).flatten(0, 1)
            output.hidden_states = None
        output.last_hidden_state = hidden_PD.index_select(0, batch.label_positions_M)[None]
        if getattr(output, "router_logits", None) is not None:
            output.router_logits = tuple(
                logits_PE.index_select(0, batch.conversation_positions_C) for logits_PE in output.router_logits
            )
        return output


class ForwardRecorder:
    """Calls a model and keeps the output of its fused forward, which TRL's `compute_loss` does not return."""

    def __init__(self, model: Callable[..., Any]):
        self.model = model
        self.fused_outputs: Any = None

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        if inputs.get("fused_lm_head"):
            self.fused_outputs = outputs
        return outputs


def embeddings(hidden_PD: Tensor, batch: Batch, sequence: int) -> Tensor:
    """The embedding of a sequence of each example, 0 the conversation, then the views: embedding_ND.

    It is the hidden state at the last token, or the mean over some tokens, summed in float32 at least.
    """
    if batch.mean_positions_QNT is None:
        last_N = batch.conversation_ends_N if sequence == 0 else batch.view_readouts_VN[sequence - 1]
        return hidden_PD.index_select(0, last_N)
    position_NT = batch.mean_positions_QNT[sequence]
    is_token_NT1 = (position_NT >= 0)[..., None]
    hidden_NTD = hidden_PD.index_select(0, position_NT.clamp(min=0).flatten()).unflatten(0, position_NT.shape)
    sum_ND = (hidden_NTD.to(torch.promote_types(hidden_PD.dtype, torch.float32)) * is_token_NT1).sum(dim=1)
    return (sum_ND / is_token_NT1.sum(dim=1)).to(hidden_PD.dtype)
