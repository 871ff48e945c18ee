"""Several objectives at once, each with a weight: loss = sum_i objective_weights[i] * loss_i.

At most one of them lays out views; the others read the conversations of the same forward, in whatever layout.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa.compute.flops import ModelSize, StepCounts
from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import LaidOut, Layout
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss
from llm_jepa.objectives.conversations import Conversations
from llm_jepa.settings.objectives import short_name


class SeveralObjectives(Objective):
    """The weighted sum of objectives.

    Args:
        args: The options.
        objectives: Name -> objective, in the order of the recipe.
        weights: One for each.
    """

    def __init__(self, args: JEPAConfig, objectives: dict[str, Objective], weights: Sequence[float]):
        super().__init__(args)
        self.objectives = objectives
        self.weights = dict(zip(objectives, weights, strict=True))
        parts = list(objectives.values())
        self.leader = next((part for part in parts if part.row_needs == "views"), parts[0])
        self.num_predictor_tokens = self.leader.num_predictor_tokens
        self.stops_gradient = self.leader.stops_gradient
        self.averages_target = self.leader.averages_target
        self.reads_hidden_states = any(part.reads_hidden_states for part in parts)
        self.computes_within_forward = any(part.computes_within_forward for part in parts)
        self.is_detached = all(part.is_detached for part in parts)

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Ask each objective."""
        for part in self.objectives.values():
            part.check(device_type, train_dataset, eval_dataset)

    def choose_layout(
        self, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None = None
    ) -> tuple[Layout, MaskForm, str]:
        """The layout of the objective with views, if there is one."""
        return self.leader.choose_layout(model, pad_token_id, pad_to_multiple_of)

    def lay_out(self, rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
        """The conversations, with the views of the objective that has some."""
        return self.leader.lay_out(rows, layout)

    def extras(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """The tensors of every objective by its name."""
        return {
            f"{name}/{key}": value
            for name, part in self.objectives.items()
            for key, value in part.extras(rows).items()
        }

    def target_layer(self, model: PreTrainedModel) -> int | None:
        """That of the objective with views."""
        return self.leader.target_layer(model)

    def new_predictor(self, model: PreTrainedModel) -> nn.Module | None:
        """The modules of the objectives, each by its name."""
        made = {name: part.new_predictor(model) for name, part in self.objectives.items()}
        modules = {short_name(name): module for name, module in made.items() if module is not None}
        return nn.ModuleDict(modules) if modules else None

    def forward_terms(
        self, model: PreTrainedModel, predictor: nn.Module | None, conversations: Conversations
    ) -> dict[str, Tensor]:
        """The terms of every objective by its name."""
        modules = {} if predictor is None else dict(predictor.named_children())
        return {
            f"{name}/{key}": value
            for name, part in self.objectives.items()
            if part.computes_within_forward
            for key, value in part.forward_terms(model, modules.get(short_name(name)), conversations).items()
        }

    def detached_parameters(self, predictor: nn.Module) -> list[nn.Parameter]:
        """Those of every objective that is detached."""
        modules = dict(predictor.named_children())
        own = {name: modules.get(short_name(name)) for name in self.objectives}
        return [
            parameter
            for name, module in own.items()
            if module is not None
            for parameter in self.objectives[name].detached_parameters(module)
        ]

    def extra_flops(self, counts: StepCounts, size: ModelSize) -> float:
        """The sum over the objectives."""
        return sum(part.extra_flops(counts, size) for part in self.objectives.values())

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The weighted sum; logs each objective's own loss as `jepa_loss_NAME`."""
        total_N: Tensor | None = None
        sums: dict[str, Tensor] = {}
        pairs = None
        for name, part in self.objectives.items():
            result = part.loss(_inputs_of(name, inputs))
            weighted_N = self.weights[name] * result.loss_N
            total_N = weighted_N if total_N is None else total_N + weighted_N
            sums |= result.sums | {f"jepa_loss_{short_name(name)}": result.loss_N.detach().sum()}
            pairs = pairs or result.pairs
        assert total_N is not None
        return ObjectiveLoss(total_N, sums, pairs)


def _inputs_of(name: str, inputs: LossInputs) -> LossInputs:
    """What one of the objectives reads: its own extras and terms, without its name before theirs."""
    extras = _own(name, inputs.extras)
    outputs = replace(inputs.outputs, terms=_own(name, inputs.outputs.terms or {}))
    return replace(inputs, outputs=outputs, extras=extras)


def _own(name: str, values: Any) -> dict[str, Any]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
