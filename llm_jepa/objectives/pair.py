"""`pair`: the embedding of one view predicts that of the other (LLM-JEPA, arXiv 2509.14252, section 3).

    loss = d(prediction, target) + regulariser_weight * regulariser,  d by `jepa_loss`

The prediction is the hidden state at the last token of the predicting view, a [PRED] token if they are appended. The
target is that at the last token of the predicted view, or the mean over its content (`jepa_readout`), after the last
layer or an earlier one (`target_layer`).
Legend: N rows, D the model's width.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments

from llm_jepa.config import JEPAConfig
from llm_jepa.layouts import Example, LaidOut, Layout, RowsLayout
from llm_jepa.layouts.base import plain_sequence
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss, refuse_draws_on_mps
from llm_jepa.objectives.pair_term import pair_term
from llm_jepa.objectives.view_sequences import choose_view_layout, content_sequence, predicting_sequence, view_names
from llm_jepa.settings.objectives import RowNeeds, row_comparing_option

LAST_ROW_REMEDIES = {
    ("train", False): "Set `dataloader_drop_last: true` or another batch size.",
    ("train", True): "Set `dataloader_drop_last: true`.",
    ("eval", False): "Set another batch size; evaluations drop no row.",
    ("eval", True): "Set `dataset_streaming: false`, or `eval_strategy: no`.",
}
"""(mode, whether the data are a stream) -> what to do about a last micro-batch of one row."""


class PairObjective(Objective):
    """Predicts the embedding of one view from the other view."""

    row_needs: ClassVar[RowNeeds] = "views"

    def __init__(self, args: JEPAConfig):
        super().__init__(args)
        self.num_predictor_tokens = args.num_predictor_tokens
        self.stops_gradient = args.jepa_target != "online"
        self.averages_target = args.jepa_target == "ema"

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse micro-batches of one row where the loss compares rows, and draws on a device without float64."""
        if self.args.jepa_regulariser == "sigreg":
            refuse_draws_on_mps("jepa_regulariser: sigreg", device_type)
        if row_comparing_option(self.args) is not None:
            refuse_batches_of_one_row(self.args, train_dataset, eval_dataset)

    def choose_layout(
        self, model: PreTrainedModel, pad_token_id: int, pad_to_multiple_of: int | None = None
    ) -> tuple[Layout, MaskForm, str]:
        """As `jepa_layout` says."""
        return choose_view_layout(self.args, model, pad_token_id, pad_to_multiple_of)

    def lay_out(self, rows: list[dict[str, Any]], layout: Layout) -> LaidOut:
        """The conversations with their views."""
        predicting, predicted = view_names(self.args.jepa_direction)
        targets = [content_sequence(row, predicted, self.args) for row in rows]
        is_detached = self._targets_are_detached(layout)
        examples = []
        for row, target in zip(rows, targets, strict=True):
            prediction = predicting_sequence(row, predicting, self.args, layout.pad_token_id)
            views = (prediction,) if is_detached else (prediction, target)
            examples.append(Example(plain_sequence(row["input_ids"]), row["labels"], views))
        detached = None
        if is_detached:
            detached = layout.unshared.lay_out([Example(target, (), ()) for target in targets])
        return LaidOut(layout.lay_out(examples), detached)

    def extras(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """`target_key`, equal where the predicted views are equal."""
        _, predicted = view_names(self.args.jepa_direction)
        return {"target_key": torch.tensor([token_key(row[f"{predicted}_ids"]) for row in rows])}

    def target_layer(self, model: PreTrainedModel) -> int | None:
        """The layer nearest to the option's depth."""
        return target_layer_index(self.args.target_layer, model.config.get_text_config().num_hidden_layers)

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """`pair_term` of the views' embeddings."""
        prediction_ND, target_ND = inputs.outputs.prediction_ND, inputs.outputs.target_ND
        assert prediction_ND is not None
        assert target_ND is not None
        key_N, temperature = inputs.extras["target_key"], self.args.info_nce_temperature
        return pair_term(prediction_ND, target_ND, key_N, temperature, self.args, inputs.place)

    def _targets_are_detached(self, layout: Layout) -> bool:
        """Whether targets have a forward of their own: without gradient, and not stored with the conversation."""
        if self.averages_target:
            return True
        if not self.stops_gradient:
            return False
        is_stored = self.args.jepa_source_view == "prefix" and view_names(self.args.jepa_direction)[1] == "source"
        return not (is_stored and not isinstance(layout, RowsLayout))


def target_layer_index(depth: float, num_layers: int) -> int | None:
    """The number of layers nearest to a depth in (0, 1], at least one; None for all of them.

    Example: depth 2/3 of 30 layers is 20.
    """
    layer = max(1, round(depth * num_layers))
    return None if layer == num_layers else layer


def token_key(token_ids: Sequence[int]) -> int:
    """A signed 64-bit digest of token ids, the same in every process and on every machine."""
    digest = hashlib.blake2b(np.asarray(token_ids, dtype="<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def refuse_batches_of_one_row(args: TrainingArguments, train_dataset: Any, eval_dataset: Any) -> None:
    """Refuse micro-batches of a single row, which no other is compared with, before an epoch ends in one.

    Raises:
        ValueError: There is such a micro-batch, or a stream may end in one.
    """
    option = row_comparing_option(args)
    for dataset, mode in _with_modes(train_dataset, eval_dataset):
        is_training = mode == "train"
        name, size = f"per_device_{mode}_batch_size", args.train_batch_size if is_training else args.eval_batch_size
        if size < 2:
            raise ValueError(
                f"`{name}` is {size}; `{option}` compares the rows of a micro-batch, so it needs at least 2."
            )
        if is_training and args.dataloader_drop_last:
            continue
        is_stream = isinstance(dataset, IterableDataset)
        if is_stream or (isinstance(dataset, Dataset) and len(dataset) % size == 1):
            rows = "a stream" if is_stream else f"{len(dataset)} rows"
            raise ValueError(
                f"With {rows} and `{name}: {size}` the last micro-batch {'may have' if is_stream else 'has'} a single "
                f"row, and `{option}` compares rows. {LAST_ROW_REMEDIES[mode, is_stream]}"
            )


def _with_modes(train_dataset: Any, eval_dataset: Any) -> Iterator[tuple[Any, Literal["train", "eval"]]]:
    yield train_dataset, "train"
    if eval_dataset is not None:
        for dataset in eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]:
            yield dataset, "eval"
