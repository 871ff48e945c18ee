"""`JEPATrainer`: TRL's `SFTTrainer` with the JEPA term. The mathematics is in `llm_jepa.objectives`."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.trainer_pt_utils import AcceleratorConfig

from llm_jepa.compute.flops import model_size
from llm_jepa.config import JEPAConfig
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.preparation import TEXT_COLUMN, prepare_dataset
from llm_jepa.data.rows import AnyDataset, RowError
from llm_jepa.data.text_rows import has_plain_prompts
from llm_jepa.data.unread_columns import without_unread_columns
from llm_jepa.hub.publishing_trainer import PublishingTrainer
from llm_jepa.layouts import Layout
from llm_jepa.models.kept_predictor import keep_latent_predictor
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import config_of, drop_idle_sampling, on_one_device
from llm_jepa.models.random_weights import init_revision, random_model
from llm_jepa.models.source import check_architecture
from llm_jepa.models.stop_tokens import keep_answer_end, stop_token_ids
from llm_jepa.models.trainable_weights import (
    keep_4_bit_weights_unpacked,
    keep_fp32_master_weights,
    refuse_two_precisions,
)
from llm_jepa.objectives.base import LossInputs, Objective
from llm_jepa.objectives.collator import TENSOR_COLUMNS, JEPACollator
from llm_jepa.objectives.draws import is_dropped
from llm_jepa.objectives.registry import new_objective
from llm_jepa.objectives.view_forward import ForwardRecorder
from llm_jepa.training.averaging_trainer import AveragingTrainer
from llm_jepa.training.build_errors import build_errors_explained
from llm_jepa.training.model_limits import check_rows_of_model
from llm_jepa.training.refusals import (
    refuse_arguments,
    refuse_attention_without_backward,
    refuse_fewer_rows_than_a_batch,
    refuse_fewer_rows_than_processes,
    refuse_parallelism,
    refuse_prompt_learning,
    refuse_settings,
    refuse_trained_output_tokens,
    refuse_untrained_backbone,
    refuse_untrained_model,
)
from llm_jepa.training.resumable import ResumableSFTTrainer
from llm_jepa.training.row_ends import warn_of_ends_that_do_not_stop
from llm_jepa.training.step_metrics import StepMetrics, num_new_rows
from llm_jepa.training.throughput import Throughput, device_peak_flops_per_second


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names the batch."""


class JEPATrainer(AveragingTrainer, PublishingTrainer, ResumableSFTTrainer):
    """Trains a causal LM to predict the next token, and the embedding of one view of a row from the other view.

        loss = lm_weight * lm_loss + jepa_weight * jepa_loss (+ the router loss of a mixture of experts)

    Loss dropout leaves the JEPA term out of some steps and multiplies it by `kept_step_weight` in the others.
    `lm_loss` is divided by the labelled tokens of the optimizer step, `jepa_loss` by its rows; both count all
    micro-batches and processes. The term is that of `jepa_objective`, one file in `llm_jepa.objectives`.

    Args:
        model, train_dataset, eval_dataset, processing_class, peft_config, quantization_config, callbacks, optimizers,
        ...: As for `SFTTrainer`. Rows are chats, plain pairs or pre-tokenised (`llm_jepa.data.rows`).
        args: A `JEPAConfig`; its defaults are the paper's.

    Raises:
        ValueError: An argument would have no effect or is not supported, the data lack a column, or the model does
            not support an explicit `jepa_layout: packed` or `flat`.
    """

    _tag_names = ["trl", "sft", "llm-jepa"]  # noqa: RUF012 (as TRL declares it)

    args: JEPAConfig

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: JEPAConfig | None = None,
        data_collator: Callable | None = None,
        train_dataset: AnyDataset | None = None,
        eval_dataset: AnyDataset | dict[str, AnyDataset] | None = None,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        **kwargs: Any,
    ):
        if args is None:
            args = JEPAConfig("llm-jepa-output")
        if not isinstance(args, JEPAConfig):
            raise ValueError(f"`args` is {type(args).__name__}; JEPATrainer takes a JEPAConfig.")
        refuse_arguments(args, data_collator, kwargs)
        refuse_settings(args)
        assert isinstance(args.accelerator_config, AcceleratorConfig), "TrainingArguments parses it"
        mapping = ColumnMapping.from_args(args)
        self.has_plain_prompts: bool = has_plain_prompts(train_dataset, mapping)
        if train_dataset is not None:
            train_dataset = without_unread_columns(train_dataset, mapping, "train")
        args.accelerator_config.dispatch_batches = False  # it splits a batch along its first dimension
        if isinstance(model, str):
            model = resolve_model(model, init_revision(args))
        name = model if isinstance(model, str) else model.config.name_or_path
        with build_errors_explained(name):
            if args.from_scratch:
                model, processing_class = random_model(model, args, processing_class)
            elif isinstance(model, str):
                args.model_init_kwargs = on_one_device(args.model_init_kwargs, args.device)
            check_architecture(config_of(model, args.model_init_kwargs or {}), name)
            super().__init__(model, args, None, train_dataset, eval_dataset, processing_class, **kwargs)
        refuse_parallelism(self.accelerator)
        refuse_trained_output_tokens(self.model)
        refuse_untrained_model(self.model)
        refuse_fewer_rows_than_processes(self.accelerator.num_processes, self.train_dataset)
        refuse_fewer_rows_than_a_batch(args, self.accelerator.num_processes, self.train_dataset)
        self._check_rows()
        self.model_accepts_loss_kwargs = True  # both losses are normalised by the step's counts
        if self.accelerator.distributed_type != DistributedType.DEEPSPEED:  # it keeps fp32 copies
            refuse_two_precisions(self.model, self.accelerator.mixed_precision)
            keep_fp32_master_weights(self.model)
        keep_4_bit_weights_unpacked(self.model)
        drop_idle_sampling(self.base_causal_lm)
        self._keep_stop_tokens()
        self.predictor = None
        self.layout: Layout | None = None
        self.step_metrics = StepMetrics()
        self._step_rows: int | Tensor = 0
        self._micro_batches: list[tuple[Tensor, dict[str, Tensor]]] = []  # rows and parts of the loss, of this step
        self.objective: Objective | None = new_objective(args)
        if self.objective is not None:
            self._attach_objective(self.objective)
        peak = device_peak_flops_per_second(args.device, args.bf16 or args.fp16)
        extra_flops = None if self.objective is None else self.objective.extra_flops
        size = model_size(self.accelerator.unwrap_model(self.model))  # of the trained weights that it has now
        self.throughput: Throughput = Throughput(size, peak, extra_flops=extra_flops)
        self.add_callback(self.throughput)
        self.data_collator = JEPACollator(self.data_collator, self.layout, args)

    def _attach_objective(self, objective: Objective) -> None:
        args, model = self.args, self.base_causal_lm
        device_type = self.accelerator.device.type
        refuse_prompt_learning(self.accelerator.unwrap_model(self.model))
        refuse_attention_without_backward(model, device_type)
        objective.check(device_type, self.train_dataset, self.eval_dataset)
        if objective.averages_target:
            refuse_untrained_backbone(model)
        assert not isinstance(args.pad_to_multiple_of, str), "SFTConfig resolves `auto`"
        self.layout, mask_form, _ = objective.choose_layout(
            model, self._tokenizer.pad_token_id, args.pad_to_multiple_of
        )
        self.predictor = objective.new_predictor(model)
        if self.predictor is not None:
            self._refuse_fp16_beside_two_norms()
        if not objective.trains_model:
            self.model.requires_grad_(False)  # the predictor alone is trained
        objective.attach(model, self.predictor, mask_form)

    @property
    def detached_parameters(self) -> list[nn.Parameter]:
        """Those of the objective."""
        if self.objective is None or self.predictor is None:
            return []
        return self.objective.detached_parameters(self.predictor)

    def _refuse_fp16_beside_two_norms(self) -> None:
        if self.detached_parameters and self.args.fp16:
            raise ValueError(
                "This objective has parameters whose gradients are clipped apart from the model's, which `fp16` "
                "cannot. Set `bf16: true`."
            )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model and, unless this is a checkpoint, `latent_predictor/` beside it."""
        super().save_model(output_dir, _internal_call)
        if not _internal_call:
            directory = Path(output_dir or str(self.args.output_dir))
            parts = self.base_causal_lm, self._tokenizer, self.predictor
            keep_latent_predictor(directory, *parts, self.args, self.train_dataset, self.has_plain_prompts)

    # --- data

    def _check_rows(self) -> None:
        """Compare the rows with what the model has positions and embeddings for."""
        model, k = self.base_causal_lm.config, self.args.num_predictor_tokens if self.args.jepa_weight > 0 else 0
        self.train_dataset = check_rows_of_model(self.train_dataset, model, k, "train")
        if isinstance(self.eval_dataset, dict):
            self.eval_dataset = {
                name: check_rows_of_model(rows, model, k, name) for name, rows in self.eval_dataset.items()
            }
        elif self.eval_dataset is not None:
            self.eval_dataset = check_rows_of_model(self.eval_dataset, model, k, "eval")

    def _keep_stop_tokens(self) -> None:
        """Save the token that ends an answer as a stop token, and warn of rows that end with another."""
        generation_config = self.base_causal_lm.generation_config
        if generation_config is not None and self.train_dataset is not None:
            keep_answer_end(generation_config, self._tokenizer)
            stop_ids = stop_token_ids(generation_config, self._tokenizer)
            self.train_dataset = warn_of_ends_that_do_not_stop(self.train_dataset, self._tokenizer, stop_ids, "train")

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        def tokenise(rows: AnyDataset) -> AnyDataset:
            whole = copy.copy(args)
            whole.max_length = None  # `prepare_dataset` drops or refuses long rows; none is truncated
            whole.dataset_text_field = TEXT_COLUMN
            return super(JEPATrainer, self)._prepare_dataset(
                rows, processing_class, whole, packing, formatting_func, dataset_name
            )

        tokenizer = processing_class.tokenizer if isinstance(processing_class, ProcessorMixin) else processing_class
        try:
            return prepare_dataset(dataset, args, tokenizer, tokenise, dataset_name)
        except RowError as error:
            error.data_name = dataset_name
            raise

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(TENSOR_COLUMNS)  # type: ignore[assignment]  # declared as None

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Collect the micro-batches of a step and count the rows of all processes."""
        self.throughput.begin_step()
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self.throughput.add(batch, is_dropped(self.args.seed, self.state.global_step, self.args.jepa_dropout))
        self.step_metrics.begin_step()
        self._micro_batches = []
        self._step_rows = sum(len(batch["row_index"]) for batch in batches)
        if self.accelerator.num_processes > 1:
            self._step_rows = self.accelerator.gather(torch.tensor(self._step_rows, device=device)).sum()
        return batches, num_items_in_batch

    # --- loss

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Compute TRL's loss, plus the JEPA term unless this step drops it. In evaluation, return TRL's loss alone."""
        row_index_N = inputs.pop("row_index")
        extras = inputs.pop("extras", {})
        conversations = inputs.pop("laid_out_conversations", None)
        drops_jepa = self._drops_jepa()
        if drops_jepa and conversations is not None:
            inputs["laid_out"] = conversations
        has_jepa = "laid_out" in inputs and not drops_jepa
        num_rows = len(row_index_N) if self.model.training else num_new_rows(self.accelerator, len(row_index_N))
        if has_jepa:
            inputs["laid_out"] = self.with_targets(model, inputs["laid_out"])
        forward = ForwardRecorder(model)
        result = super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)
        trl_loss, outputs = result if return_outputs else (result, None)
        is_step = num_items_in_batch is not None
        router_loss = self._router_loss(forward.fused_outputs, is_step)
        lm_loss = trl_loss - router_loss
        loss = trl_loss if self.args.lm_weight == 1 else self.args.lm_weight * lm_loss + router_loss
        parts = {"lm_loss": lm_loss}
        if has_jepa:
            parts |= self._objective_parts(forward.fused_outputs, extras, row_index_N, num_rows, is_step)
            loss = loss + self.args.kept_step_weight * parts["jepa_loss"]
        if not self.model.training:
            del parts["lm_loss"]
            loss = trl_loss
        else:
            kept = {name: part.detach() for name, part in {"loss": loss, **parts}.items()}
            self._micro_batches.append((row_index_N, kept))
            if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
                self._check_losses()  # DeepSpeed takes the optimizer's step within the backward pass
        self.step_metrics.add(self.mode, parts, num_rows)
        return (loss, outputs) if return_outputs else loss

    def _drops_jepa(self) -> bool:
        """Whether the current step drops the JEPA term. All processes agree, also after a resume."""
        args = self.args
        return self.model.training and is_dropped(args.seed, self.state.global_step, args.jepa_dropout)

    def _router_loss(self, outputs: Any, is_step: bool) -> Tensor | float:
        """The router loss of a mixture of experts, as TRL has added it to its loss."""
        if not self.aux_loss_enabled or self.label_smoother is not None:
            return 0.0
        return (
            self.router_aux_loss_coef * outputs.aux_loss / (self.current_gradient_accumulation_steps if is_step else 1)
        )

    def _objective_parts(
        self, outputs: Any, extras: dict[str, Any], row_index_N: Tensor, num_rows: int, is_step: bool
    ) -> dict[str, Tensor]:
        """The JEPA loss of a micro-batch, and what its objective logs.

        It is of the first `num_rows` rows; of one if there are none, since other processes may ask for it.
        """
        assert self.objective is not None
        inputs = LossInputs(outputs, extras, row_index_N, self.place())
        result = self.objective.loss(inputs.first_rows(max(1, num_rows)))
        if result.pairs is not None:
            self.step_metrics.add_pairs(self.mode, *result.pairs)
        share = self._share_of_step(len(result.loss_N), is_step)
        sums = {"jepa_loss": result.loss_N.sum(), **result.sums}
        return {name: total * share for name, total in sums.items()}

    def _share_of_step(self, num_rows: int, is_step: bool) -> float | Tensor:
        """The weight of a row in the mean over the step's rows or, outside a step, over those of the micro-batch."""
        # `_step_rows` counts all processes, and data parallelism averages their gradients.
        return self.accelerator.num_processes / self._step_rows if is_step else 1 / num_rows

    def _check_losses(self) -> None:
        """Raise if a loss of the step's micro-batches is not finite. Once a step, since it waits for the device."""
        values = torch.stack([parts["loss"] for _, parts in self._micro_batches]).tolist()
        for value, (row_index_N, parts) in zip(values, self._micro_batches, strict=True):
            if not math.isfinite(value):
                detail = ", ".join(f"{name} {part.item()}" for name, part in parts.items() if name != "loss")
                self._raise_non_finite(f"loss is {value} ({detail})", [row_index_N])

    def _raise_non_finite(self, what: str, row_indices: list[Tensor] | None = None) -> NoReturn:
        row_indices = row_indices or [row_index_N for row_index_N, _ in self._micro_batches]
        rows = [index for row_index_N in row_indices for index in row_index_N.tolist()]
        raise NonFiniteLossError(
            f"The {what} in step {self.state.global_step + 1}, in the batch of rows {rows} of the training data. "
            f"Training has stopped; the last checkpoint in {self.args.output_dir} is kept. "
            "Look at these rows with `llm-jepa inspect`, or lower the learning rate."
        )

    # --- logs

    def predict(self, test_dataset: AnyDataset, *args: Any, **kwargs: Any):
        """Predict on rows of any form that training takes, prepared as `evaluate` prepares them."""
        rows = self._prepare_dataset(
            test_dataset, self.processing_class, self.args, self.args.packing, self._formatting_func, "test"
        )
        return super().predict(rows, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the throughput too."""
        if self.mode == "train":
            logs.update(self.throughput.summary(self.accelerator))
        super().log(logs, start_time)
