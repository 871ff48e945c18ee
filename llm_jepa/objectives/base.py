"""What an auxiliary term of the loss is to the trainer. Each objective is one file with one subclass of `Objective`.

Legend: N rows of a micro-batch, D the model's width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa.compute.flops import ModelSize, StepCounts
from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import LaidOut, Layout, RowsLayout
from llm_jepa.layouts.base import lay_out_conversations
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.conversations import Conversations
from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from llm_jepa.objectives.view_forward import ViewForward, ViewOutput
from llm_jepa.settings.objectives import RowNeeds


@dataclass(frozen=True)
class Place:
    """Where a micro-batch stands in the training.

    Attributes:
        max_rows: The most rows of any process's micro-batch.
        rank, num_processes: This process, and how many there are.
        seed, step: What draws depend on; the step is the optimizer's, 0 in evaluation.
    """

    max_rows: int
    rank: int = 0
    num_processes: int = 1
    seed: int = 0
    step: int = 0


@dataclass(frozen=True)
class LossInputs:
    """What an objective reads of a micro-batch after the model's forward.

    Attributes:
        outputs: Embeddings of the views, hidden states, or what was computed within the forward.
        extras: What `Objective.extras` has added to the batch, with the rows first.
        row_index_N: Index of each row in the data set.
        place: Where the micro-batch stands.
    """

    outputs: ViewOutput
    extras: Mapping[str, Any]
    row_index_N: Tensor
    place: Place

    def first_rows(self, num_rows: int) -> "LossInputs":
        """The same of the first rows alone. Whatever an objective reads of a micro-batch has the rows first."""
        if num_rows == len(self.row_index_N):
            return self

        outputs, terms = self.outputs, self.outputs.terms
        names = ("prediction_ND", "target_ND", "hidden_NSD")
        given = {name: value for name in names if (value := getattr(outputs, name)) is not None}
        cut: dict[str, Any] = cut_rows(given, num_rows)
        cut["terms"] = None if terms is None else cut_rows(terms, num_rows)
        extras = cut_rows(self.extras, num_rows)
        return replace(self, outputs=replace(outputs, **cut), extras=extras, row_index_N=self.row_index_N[:num_rows])


def cut_rows(values: Mapping[str, Any], num_rows: int) -> dict[str, Any]:
    """The first rows of each value, whose first dimension must be that of the rows."""
    return {name: value[:num_rows] for name, value in values.items()}


@dataclass(frozen=True)
class ObjectiveLoss:
    """The loss of a micro-batch.

    Attributes:
        loss_N: One for each row.
        sums: Name of a logged metric -> its sum over the rows.
        pairs: Prediction, target and a key that is equal where targets are equal, for the collapse figures; None
            without pairs.
    """

    loss_N: Tensor
    sums: dict[str, Tensor] = field(default_factory=dict)
    pairs: tuple[Tensor, Tensor, Tensor] | None = None


class Objective(ABC):
    """One auxiliary term: which positions it reads, what predicts what, and the loss of each row.

    The trainer lays a micro-batch out with `lay_out`, computes the model's forward once, and adds the mean of `loss`
    over the rows of the step. `llm_jepa.settings.objectives` has what is known of an objective without torch.

    Args:
        args: The options.
    """

    row_needs: ClassVar[RowNeeds]
    """What it needs of a row: two views, spans or steps of the conversation, or the conversation alone."""
    num_predictor_tokens: int = 0
    """Number of learned [PRED] vectors."""
    stops_gradient: bool = False
    """Whether the target view is detached."""
    averages_target: bool = False
    """Whether the target view is embedded by averaged weights; it is then laid out on its own, `LaidOut.detached`."""
    reads_hidden_states: bool = False
    """Whether `loss` reads the hidden states of the conversations."""
    computes_within_forward: bool = False
    """Whether it has `forward_terms`, for which the hidden states of the conversations are given."""
    is_detached: bool = False
    """Whether its loss sends no gradient into the model."""

    def __init__(self, args: JEPAConfig):
        self.args = args

    @property
    def trains_model(self) -> bool:
        """Whether the model learns: from the objective, or from the next-token loss beside it."""
        return not self.is_detached or self.args.lm_weight > 0

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:  # noqa: B027 (most have none)
        """Refuse a device or data sets that the objective cannot train on.

        Raises:
            ValueError: It cannot.
        """

    def choose_layout(
        self, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None = None
    ) -> tuple[Layout, MaskForm, str]:
        """The layout for a model, the form of its mask, and the reason; without views, the conversations in rows."""
        return RowsLayout(pad_token_id, pad_to_multiple_of), MaskForm("padding"), "the objective adds no token"

    def lay_out(self, rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
        """What the model computes of prepared rows; without views, the conversations."""
        return lay_out_conversations(rows, layout)

    def extras(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Tensors that `loss` reads, with the rows first; none if it reads outputs alone."""
        return {}

    @abstractmethod
    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The loss of each row."""

    def new_predictor(self, model: PreTrainedModel) -> nn.Module | None:
        """The parameters of its own as a training begins with them; None for an objective without."""
        if self.num_predictor_tokens == 0:
            return None
        return new_predictor(model, self.num_predictor_tokens, self.args.seed)

    def forward_terms(
        self, model: PreTrainedModel, predictor: nn.Module | None, conversations: Conversations
    ) -> dict[str, Tensor]:
        """What it computes with its own parameters or the LM head, within the model's forward: `outputs.terms`,
        with the rows first."""
        raise NotImplementedError("an objective that `computes_within_forward` has `forward_terms`")

    def detached_parameters(self, predictor: nn.Module) -> list[nn.Parameter]:
        """Those of its own parameters whose loss sends no gradient into the model."""
        return list(predictor.parameters()) if self.is_detached else []

    def target_layer(self, model: PreTrainedModel) -> int | None:
        """The number of layers after which the target view is read; None for all, and the final norm."""
        return None

    def extra_flops(self, counts: StepCounts, size: ModelSize) -> float:
        """FLOPs of `forward_terms`, forward and backward, which `step_flops` does not know."""
        return 0.0

    def attach(self, model: PreTrainedModel, predictor: nn.Module | None, mask_form: MaskForm) -> None:
        """Give a model the forward over laid-out batches."""
        modules = [] if predictor is None else predictor.modules()

        def terms(model: PreTrainedModel, conversations: Conversations) -> dict[str, Tensor]:
            return self.forward_terms(model, predictor, conversations)

        ViewForward(
            model,
            predictor=next((module for module in modules if isinstance(module, PredictorTokens)), None),
            mask_form=mask_form,
            stops_gradient=self.stops_gradient,
            target_layer=self.target_layer(model),
            gives_hidden_states=self.reads_hidden_states,
            forward_terms=terms if self.computes_within_forward else None,
        )


def refuse_draws_on_mps(option: str, device_type: str) -> None:
    """Refuse an option that draws on a device without float64, in which the draws are made.

    Raises:
        ValueError: The device is MPS.
    """
    if device_type == "mps":
        raise ValueError(f"`{option}` draws in float64, which MPS lacks. Set `use_cpu: true`.")


def refuse_beyond_rows(option: str, tokens_ahead: int, more: int, train_dataset: Any) -> None:
    """Refuse an option that looks further ahead than any row is long, by `more` tokens than it says.

    Raises:
        ValueError: It does. A stream passes.
    """
    if not isinstance(train_dataset, Dataset):
        return
    longest = max(len(ids) for ids in train_dataset["input_ids"])
    if tokens_ahead + more >= longest:
        raise ValueError(
            f"`{option}` is {tokens_ahead}, and the longest row has {longest} tokens, so no row has a token so far "
            f"ahead. Set it to at most {longest - 1 - more}."
        )
