"""FLOPs and peak memory of one micro-batch of training, from tensors without data: needs no weights and no device.

Model, views and layout are those of training; only the values are missing (`FakeTensorMode`). The losses on top of the
embeddings depend on values and cost almost nothing, so sums replace them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl import get_peft_config
from trl.kernels import chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from llm_jepa.compute.flops import active_expert_share
from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import LaidOut
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.models.loading import meta_model
from llm_jepa.models.trainable_weights import keep_fp32_master_weights
from llm_jepa.objectives.losses.lm_head import VOCABULARY_CHUNK
from llm_jepa.objectives.own_parameters import predictor_registered
from llm_jepa.objectives.registry import new_objective
from llm_jepa.objectives.view_forward import ViewForward
from llm_jepa.planning.dry_training import DryTraining, materialise
from llm_jepa.planning.live_bytes import storage_bytes
from llm_jepa.planning.memory import Weights
from llm_jepa.recipe import Recipe


class DryModel(DryTraining):
    """A recipe's model in training mode, without data.

    Args:
        recipe: Gives model, adapters, precision, checkpointing and view options.
        model_path: Directory or Hub id of the model's config.
        mask_form: The form of mask that the model takes.
        half_weights: 16-bit weights without autocast, as in DeepSpeed and FSDP under mixed precision.

    Raises:
        ValueError: The model is a mixture of experts.
    """

    kinds = ("activations", "logits", "gradients")
    args: JEPAConfig

    def __init__(self, recipe: Recipe, model_path: str, mask_form: MaskForm, half_weights: bool = False):
        args = recipe.training
        super().__init__(args)
        self.recipe = recipe
        self.autocasts = self.half is not None and not half_weights
        base = meta_model(recipe, model_path)
        _refuse_experts(base)
        self.head_widths = _head_widths(base.config.get_text_config().vocab_size)
        add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
        adapter = get_peft_config(recipe.model)
        self.base = base
        self.model = base if adapter is None else get_peft_model(base, adapter)
        self.objective = new_objective(args)
        if half_weights and self.half is not None:
            self.model.to(dtype=self.half)  # type: ignore[call-arg]  # transformers wraps it
        else:
            keep_fp32_master_weights(self.model)
        with self.mode:
            materialise(self.model)
            self.predictor = None if self.objective is None else self.objective.new_predictor(base)
        if self.objective is not None and not self.objective.trains_model:
            self.model.requires_grad_(False)
        if self.objective is None:
            ViewForward(base, None, mask_form, stops_gradient=False)  # SFT whose head scores labelled positions alone
        else:
            self.objective.attach(base, self.predictor, mask_form)
        if args.gradient_checkpointing:
            base.activation_checkpointing_enable(args.gradient_checkpointing_kwargs or None)
            if adapter is not None:
                base.enable_input_require_grads()
        self.model.train()

    def weights(self) -> Weights:
        """Bytes of the model's weights, those of the objective included."""
        plain = self._weights(0.0, [] if self.predictor is None else self.predictor.parameters())
        quantised_bytes, saved_bytes = self._quantised_bytes()
        weight_bytes = plain.weight_bytes - saved_bytes
        layers = self.base.config.get_text_config().num_hidden_layers
        embedding_bytes = storage_bytes(self.base.get_input_embeddings().parameters())
        is_averaged = self.objective is not None and self.objective.averages_target
        averaged = [one for one in self.base.base_model.parameters() if is_averaged and one.requires_grad]
        return replace(
            plain,
            weight_bytes=weight_bytes,
            quantised_bytes=quantised_bytes,
            block_bytes=max((weight_bytes - embedding_bytes) / layers, embedding_bytes),
            averaged_parameters=sum(one.numel() for one in averaged),
        )

    def _quantised_bytes(self) -> tuple[float, float]:
        """Bytes of the base's quantised linear layers (all but the head), and the bytes that quantisation saves."""
        settings = self.recipe.model
        if not (settings.load_in_4bit or settings.load_in_8bit):
            return 0.0, 0.0
        scales = 1 / 64 + 4 / (64 * 256) if settings.use_bnb_nested_quant else 4 / 64
        head = self.base.get_output_embeddings()
        linear = [
            module
            for name, module in self.base.named_modules()
            if isinstance(module, nn.Linear) and module is not head and "lora_" not in name
        ]
        numbers = sum(module.weight.numel() for module in linear)
        rows = sum(module.weight.shape[0] for module in linear)
        quantised = numbers * (0.5 + scales) if settings.load_in_4bit else float(numbers + 4 * rows)
        return quantised, storage_bytes(module.weight for module in linear) - quantised

    def peak_bytes(self, inputs: dict[str, Any], gradient_share: float = 1.0) -> dict[str, float]:
        """Peak bytes of a micro-batch by `kinds`.

        Tensors as wide as the head's tiles count as `logits`. The peak is a CPU's if the recipe sets `use_cpu`, else a
        GPU's, whose head copies no tile to float32.
        """
        with _head_kernels(self.recipe.settings.get("use_cpu", False)):
            return super().peak_bytes(inputs, gradient_share)

    @contextmanager
    def _ready(self, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with predictor_registered(self.base, self.predictor), super()._ready(inputs):
            fake = self.mode.from_tensor
            yield {name: one.map(fake) if isinstance(one, LaidOut) else fake(one) for name, one in inputs.items()}

    def _loss(self, inputs: dict[str, Any]) -> Tensor:
        with torch.autocast("cpu", dtype=self.half, enabled=self.autocasts):
            outputs = self.model(**inputs, fused_lm_head=True)
            loss = outputs.log_probs.sum()
            asked = [getattr(outputs, name, None) for name in ("prediction_ND", "target_ND", "hidden_NSD")]
            for values in (*asked, *(getattr(outputs, "terms", None) or {}).values()):
                if values is not None:
                    loss = loss + values.float().sum()
            return loss

    def _kind_of(self, tensor: Tensor) -> str:
        return "logits" if tensor.dim() > 0 and tensor.shape[-1] in self.head_widths else "activations"


def _refuse_experts(model: PreTrainedModel) -> None:
    if active_expert_share(model) < 1:
        raise ValueError(
            f"{type(model).__name__} is a mixture of experts: it routes tokens by their values, which a plan does not "
            "have. Plan a dense model with the parameters that a token uses, or measure with "
            "`llm-jepa train --max_steps 20`."
        )


def _head_widths(vocabulary: int) -> set[int]:
    """Widths of the tiles in which TRL's head scores a vocabulary."""
    return {vocabulary, min(vocabulary, VOCABULARY_CHUNK), vocabulary % VOCABULARY_CHUNK}


@contextmanager
def _head_kernels(use_cpu: bool) -> Iterator[None]:
    """Leave out what TRL's head computes on a tile where no GPU does: there one kernel does it without memory.

    The values of a dry step mean nothing; on a CPU the tile's float32 copies count.
    """
    names = () if use_cpu else ("_forward_tile", "_backward_tile")
    kept = {name: getattr(chunked_logprob, name) for name in names}
    for name in names:
        setattr(chunked_logprob, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(chunked_logprob, name, function)
