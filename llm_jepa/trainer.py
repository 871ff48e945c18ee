"""`JEPATrainer`: TRL's `SFTTrainer` with the JEPA term. It wires; the mathematics is elsewhere."""

import copy
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import DistributedType
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
from transformers.trainer_pt_utils import AcceleratorConfig

from llm_jepa.compute.flops import model_size
from llm_jepa.config import JEPAConfig
from llm_jepa.data.preparation import prepare_dataset
from llm_jepa.data.rows import AnyDataset
from llm_jepa.hub.publishing_trainer import PublishingTrainer
from llm_jepa.layouts import Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.choice import choose_layout
from llm_jepa.layouts.collator import TENSOR_COLUMNS, JEPACollator
from llm_jepa.layouts.masks import MaskForm
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import drop_idle_sampling
from llm_jepa.models.random_weights import init_revision, random_model
from llm_jepa.models.trainable_weights import keep_4_bit_weights_unpacked, keep_fp32_master_weights
from llm_jepa.objectives.diagnostics import paired_cosine
from llm_jepa.objectives.draws import is_dropped, uniform_draws
from llm_jepa.objectives.gathering import gather_rows
from llm_jepa.objectives.losses import NUM_SPAN_DRAWS, pair_loss, span_loss
from llm_jepa.objectives.predictor import (
    PredictorTokens,
    gathered_vectors,
    load_vectors,
    new_predictor,
    predictor_registered,
    predictor_unregistered,
    save_vectors,
    without_predictor,
)
from llm_jepa.objectives.view_forward import ForwardRecorder, ViewForward
from llm_jepa.training.refusals import (
    refuse_arguments,
    refuse_attention,
    refuse_device,
    refuse_few_rows,
    refuse_lonely_rows,
    refuse_model,
    refuse_parallelism,
    refuse_settings,
    refuse_trained_tokens,
)
from llm_jepa.training.resumable import ResumableTrainer
from llm_jepa.training.step_metrics import StepMetrics
from llm_jepa.training.throughput import Throughput, known_peak

logger = logging.getLogger(__name__)


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite; the message names the batch."""


class JEPATrainer(PublishingTrainer, ResumableTrainer):
    """Trains a causal LM to predict the next token and, besides, the embedding of one view of a row from the other.

        loss = lm_weight * lm_loss + jepa_weight * jepa_loss (+ the router loss of a mixture of experts)

    With loss dropout the term is left out of some steps and weighs `kept_step_weight` in the others. `lm_loss` is
    normalised by the labelled tokens of the optimizer step, `jepa_loss` by its rows, both over all micro-batches and
    processes. LLM-JEPA (arXiv 2509.14252); with `jepa_objective: tube` or `patch`, Semantic Tube Prediction (arXiv
    2602.22617) in its place.

    Args:
        model, train_dataset, eval_dataset, processing_class, peft_config, quantization_config, callbacks, optimizers,
        ...: As for `SFTTrainer`. Rows are chats, plain pairs or pre-tokenised (`llm_jepa.data.rows`).
        args: A `JEPAConfig`; its defaults are the paper's.

    Raises:
        ValueError: An argument would have no effect or cannot be honoured, the data lack a column, or an explicit
            `jepa_layout: packed` or `flat` meets a model that cannot take it.
    """

    _tag_names = ["trl", "sft", "llm-jepa"]  # noqa: RUF012 (as TRL declares it)

    args: JEPAConfig
    model: PreTrainedModel | PeftModel  # transformers allows None, before there is a model

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
        args.accelerator_config.dispatch_batches = False  # a dispatched batch is cut up along the first dimension
        if isinstance(model, str):
            model = resolve_model(model, init_revision(args))
        if args.from_scratch:
            model, processing_class = random_model(model, args, processing_class)
        super().__init__(model, args, None, train_dataset, eval_dataset, processing_class, **kwargs)
        refuse_parallelism(self.accelerator)
        refuse_trained_tokens(self.model)
        refuse_few_rows(self.accelerator.num_processes, self.train_dataset)
        self.model_accepts_loss_kwargs = True  # both losses are normalised by the step's counts
        if self.accelerator.distributed_type != DistributedType.DEEPSPEED:  # which keeps fp32 copies of its own
            keep_fp32_master_weights(self.model)
        keep_4_bit_weights_unpacked(self.model)
        drop_idle_sampling(self.base_causal_lm)
        self.predictor: PredictorTokens | None = None
        self.layout: Layout | None = None
        self.step_metrics = StepMetrics()
        is_half = args.bf16 or args.fp16
        self.throughput: Throughput = Throughput(
            model_size(self.accelerator.unwrap_model(self.model)), known_peak(args.device, is_half)
        )
        self.add_callback(self.throughput)
        self._step_rows: int | Tensor = 0
        self._micro_batches: list[tuple[Tensor, dict[str, Tensor]]] = []  # rows and parts of the loss, of this step
        if args.jepa_weight > 0:
            self._attach_views()
        self.data_collator = JEPACollator(self.data_collator, self.layout, args)

    @property
    def base_causal_lm(self) -> PreTrainedModel:
        """The causal LM under the adapter, if there is one."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _attach_views(self) -> None:
        args, model = self.args, self.base_causal_lm
        refuse_model(self.accelerator.unwrap_model(self.model))
        refuse_attention(model, self.accelerator.device.type)
        pad_token_id, multiple = self._tokenizer.pad_token_id, args.pad_to_multiple_of
        assert not isinstance(multiple, str), "SFTConfig resolves `auto`"
        if args.jepa_objective != "pair":
            self.layout = RowsLayout(pad_token_id, multiple)
            refuse_device(args, self.accelerator.device.type)
            ViewForward(model, None, MaskForm("padding"), stops_gradient=False, gives_hidden_states=True)
            return
        if args.jepa_loss == "info_nce":
            refuse_lonely_rows(args, self.train_dataset, self.eval_dataset)
        self.layout, mask_form, _ = choose_layout(model, args.jepa_layout, pad_token_id, multiple)
        is_unasked = args.jepa_layout == "auto" and not isinstance(self.layout, PackedLayout)
        if args.jepa_source_view == "prefix" and is_unasked:
            logger.warning(
                "`jepa_source_view: prefix` costs no less than `alone` in the layout %s, which computes the shared "
                "prefix again. The layout packed needs an attention that takes a mask: sdpa, eager, flex_attention.",
                self.layout.name,
            )
        if args.num_predictor_tokens > 0:
            self.predictor = new_predictor(model, args.num_predictor_tokens, args.seed)
        ViewForward(model, self.predictor, mask_form, stops_gradient=args.jepa_target == "stop_gradient")

    # --- data

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        def tokenise(rows: AnyDataset) -> AnyDataset:
            whole = copy.copy(args)
            whole.max_length = None  # long rows are dropped or refused below, never cut
            return super(JEPATrainer, self)._prepare_dataset(
                rows, processing_class, whole, packing, formatting_func, dataset_name
            )

        tokenizer = processing_class.tokenizer if isinstance(processing_class, ProcessorMixin) else processing_class
        return prepare_dataset(dataset, args, tokenizer, tokenise, dataset_name)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(TENSOR_COLUMNS)  # type: ignore[assignment]  # declared as None

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Collect the micro-batches of a step and count its rows, over all processes."""
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
        """TRL's loss and, unless this step drops it, the JEPA term. In evaluation the LM loss alone."""
        row_index_N, spans = inputs.pop("row_index"), inputs.pop("spans", None)
        conversations = inputs.pop("laid_out_conversations", None)
        drops_jepa = self._drops_jepa()
        if drops_jepa and conversations is not None:
            inputs["laid_out"] = conversations
        has_jepa = "laid_out" in inputs and not drops_jepa
        forward = ForwardRecorder(model)
        result = super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)
        trl_loss, outputs = result if return_outputs else (result, None)
        is_step = num_items_in_batch is not None
        router_loss = self._router_loss(forward.fused_outputs, is_step)
        lm_loss = trl_loss - router_loss
        loss = trl_loss if self.args.lm_weight == 1 else self.args.lm_weight * lm_loss + router_loss
        parts = {"lm_loss": lm_loss}
        if has_jepa:
            fused = forward.fused_outputs
            if spans is None:
                parts |= self._pair_parts(fused, is_step)
            else:
                parts |= self._span_parts(fused, spans, row_index_N, is_step)
            loss = loss + self.args.kept_step_weight * parts["jepa_loss"]
        if not self.model.training:
            del parts["lm_loss"]
            loss = trl_loss
        else:
            kept = {name: part.detach() for name, part in {"loss": loss, **parts}.items()}
            self._micro_batches.append((row_index_N, kept))
            if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
                self._check_losses()  # now, since DeepSpeed takes the optimizer's step within the backward pass
        self.step_metrics.add(self._mode, parts, len(row_index_N))
        return (loss, outputs) if return_outputs else loss

    def _drops_jepa(self) -> bool:
        """Whether the step under way drops the JEPA term; equal on every process, and after a resume."""
        args = self.args
        return self.model.training and is_dropped(args.seed, self.state.global_step, args.jepa_dropout)

    def _router_loss(self, outputs: Any, is_step: bool) -> Tensor | float:
        """What TRL has added to its loss for the router of a mixture of experts."""
        if not self.aux_loss_enabled or self.label_smoother is not None:
            return 0.0
        return (
            self.router_aux_loss_coef * outputs.aux_loss / (self.current_gradient_accumulation_steps if is_step else 1)
        )

    def _pair_parts(self, outputs: Any, is_step: bool) -> dict[str, Tensor]:
        """The JEPA term of a micro-batch's pairs, and their cosine."""
        prediction_ND, target_ND = outputs.prediction_ND, outputs.target_ND
        self.step_metrics.add_pairs(self._mode, prediction_ND, target_ND)
        loss_N = pair_loss(
            self.args.jepa_loss,
            prediction_ND,
            target_ND,
            self.args.info_nce_temperature,
            self._negatives(target_ND),
        )
        cosine = paired_cosine(prediction_ND.detach(), target_ND.detach())
        share = self._share_of_step(len(loss_N), is_step)
        return {"jepa_loss": loss_N.sum() * share, "jepa_cosine": cosine * len(loss_N) * share}

    def _negatives(self, target_ND: Tensor) -> tuple[Tensor, Tensor] | tuple[()]:
        """For InfoNCE the targets of the other processes, if there are any."""
        accelerator = self.accelerator
        if self.args.jepa_loss != "info_nce" or accelerator.num_processes == 1:
            return ()
        max_rows = self.args.train_batch_size if self.model.training else self.args.eval_batch_size
        return gather_rows(target_ND.float(), max_rows, accelerator.process_index, accelerator.num_processes)

    def _span_parts(
        self, outputs: Any, spans: dict[str, Tensor], row_index_N: Tensor, is_step: bool
    ) -> dict[str, Tensor]:
        """The Semantic Tube term of a micro-batch; its draws are those of the step, in evaluation always the same."""
        step = self.state.global_step if self.model.training else 0
        draw_NC = uniform_draws(self.args.seed, step, row_index_N, NUM_SPAN_DRAWS)
        assert self.args.jepa_objective != "pair"
        assert self.args.span_sampler is not None, "JEPAConfig resolves the sampler"
        loss_N = span_loss(self.args.jepa_objective, self.args.span_sampler, outputs.hidden_RLD, draw_NC, **spans)
        return {"jepa_loss": loss_N.sum() * self._share_of_step(len(loss_N), is_step)}

    def _share_of_step(self, num_rows: int, is_step: bool) -> float | Tensor:
        """What a row counts in the mean over the step's rows, or, outside a step, over the micro-batch's."""
        # Data-parallel launchers average gradients over the processes; the step's rows are those of all of them.
        return self.accelerator.num_processes / self._step_rows if is_step else 1 / num_rows

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None):
        """The gradient's norm; the step's losses and gradients are looked at before the optimizer uses them."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        self._check_losses()
        # A scaler of fp16 meets infinite gradients on purpose, and passes such steps over.
        if not self.args.fp16 and grad_norm is not None and not math.isfinite(grad_norm):
            rows = [row_index_N for row_index_N, _ in self._micro_batches]
            self._stop(f"gradient's norm is {float(grad_norm)}", rows)
        return grad_norm

    def _check_losses(self) -> None:
        """Stop if a loss of the step's micro-batches is not finite; once in a step, for it waits for the device."""
        values = torch.stack([parts["loss"] for _, parts in self._micro_batches]).tolist()
        for value, (row_index_N, parts) in zip(values, self._micro_batches, strict=True):
            if not math.isfinite(value):
                detail = ", ".join(f"{name} {part.item()}" for name, part in parts.items() if name != "loss")
                self._stop(f"loss is {value} ({detail})", [row_index_N])

    def _stop(self, what: str, row_indices: list[Tensor]) -> NoReturn:
        rows = [index for row_index_N in row_indices for index in row_index_N.tolist()]
        raise NonFiniteLossError(
            f"The {what} in step {self.state.global_step + 1}, in the batch of rows {rows} of the training data. "
            f"Training has stopped; the last checkpoint in {self.args.output_dir} is kept."
            " Look at these rows with `llm-jepa inspect`, or lower the learning rate."
        )

    # --- logs

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        """Evaluate as `SFTTrainer` does; rows of a prediction, which is never logged, are no part of it."""
        self.step_metrics.begin_evaluation()
        return super().evaluation_loop(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss and the diagnostics to what TRL logs."""
        rate = "_samples_per_second"  # only an evaluation's logs have it, after the evaluation's prefix
        prefix = next((key.removesuffix(rate) for key in logs if key.endswith(rate)), "eval")
        metrics, warning = self.step_metrics.summary(self._mode, self.accelerator, prefix)
        if warning is not None:
            logger.warning(warning)
        if self._mode == "train":
            metrics |= self.throughput.summary(self.accelerator)
        logs.update(metrics)  # in place, as TRL does: `metric_for_best_model` may name one of ours
        super().log(logs, start_time)

    # --- predictor vectors: in the model while it trains, beside checkpoints, never in what is shipped

    def train(self, *args: Any, **kwargs: Any):
        """Train as `SFTTrainer` does, the predictor tokens among the trained parameters."""
        with predictor_registered(self.base_causal_lm, self.predictor):
            return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model without predictor tokens; beside a checkpoint, which is an internal call, those too."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self.predictor is not None:
            vectors_KD = gathered_vectors(self.predictor)
            if self.args.should_save:
                Path(output_dir or str(self.args.output_dir)).mkdir(parents=True, exist_ok=True)
                save_vectors(vectors_KD, output_dir or str(self.args.output_dir))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if state_dict is not None:
            state_dict = without_predictor(state_dict)
        with predictor_unregistered(self.base_causal_lm):
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # FSDP writes and reads the weights that train, all of them; elsewhere a checkpoint holds the model alone.
        with nullcontext() if self.is_fsdp_enabled else predictor_unregistered(self.base_causal_lm):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.predictor is not None:
            load_vectors(self.predictor, resume_from_checkpoint)
