"""What an auxiliary term of the loss is to the trainer. Each objective is one file with one subclass of `Objective`.

Legend: N rows of a micro-batch, D the model's width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import Layout
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.predictor import PredictorTokens, new_predictor
from llm_jepa.objectives.view_forward import ViewForward, ViewOutput
from llm_jepa.settings.objectives import RowNeeds


@dataclass(frozen=True)
class LossInputs:
    """What an objective reads of a micro-batch after the model's forward.

    Attributes:
        outputs: Embeddings of the views, or hidden states.
        extras: What `lay_out` has added beside `laid_out`.
        row_index_N: Index of each row in the data set.
        step: The optimizer step that draws depend on; 0 in evaluation.
        max_rows: The most rows of any process's micro-batch.
        rank, num_processes: This process, and how many there are.
    """

    outputs: ViewOutput
    extras: Mapping[str, Any]
    row_index_N: Tensor
    step: int
    max_rows: int
    rank: int
    num_processes: int


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
    """What it needs of a row: two views, or the spans of source and target in the conversation."""
    extra_names: ClassVar[tuple[str, ...]] = ()
    """Names of what `lay_out` adds to a batch beside `laid_out`."""
    num_predictor_tokens: int = 0
    """Number of learned [PRED] vectors."""
    stops_gradient: bool = False
    """Whether the target view is detached."""
    reads_hidden_states: bool = False
    """Whether it reads the hidden states of the conversations in place of views."""

    def __init__(self, args: JEPAConfig):
        self.args = args

    @abstractmethod
    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse a device or data sets that the objective cannot train on.

        Raises:
            ValueError: It cannot.
        """

    @abstractmethod
    def choose_layout(
        self, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None = None
    ) -> tuple[Layout, MaskForm, str]:
        """The layout for a model, the form of its mask, and the reason."""

    @abstractmethod
    def lay_out(self, rows: list[dict[str, Any]], layout: Layout) -> dict[str, Any]:
        """`laid_out`, what the model computes of prepared rows, and the extras."""

    @abstractmethod
    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The loss of each row."""

    def new_predictor(self, model: PreTrainedModel) -> PredictorTokens | None:
        """The learned vectors of a training that begins; None for an objective without."""
        if self.num_predictor_tokens == 0:
            return None
        return new_predictor(model, self.num_predictor_tokens, self.args.seed)

    def attach(self, model: PreTrainedModel, predictor: PredictorTokens | None, mask_form: MaskForm) -> None:
        """Give a model the forward over laid-out batches."""
        ViewForward(model, predictor, mask_form, self.stops_gradient, gives_hidden_states=self.reads_hidden_states)
