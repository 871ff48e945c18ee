"""What is used of TRL's and transformers' internals, in the releases that were tried. A failure: they have changed."""

import inspect
import tomllib
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from packaging.requirements import Requirement
from packaging.version import Version
from transformers import PreTrainedModel, Trainer
from transformers.generation.candidate_generator import CandidateGenerator
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from trl import SFTConfig, SFTTrainer
from trl.data_utils import common_prefix_length
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, FusedCausalLMOutput, add_fused_lm_head

from llm_jepa.objectives.latent_dynamics import CACHE_ARGUMENT
from llm_jepa.objectives.losses.lm_head import VOCABULARY_CHUNK
from tests.architectures import tiny_model
from tests.tiny import tiny_llama, tiny_tokenizer

ROOT = Path(__file__).parent.parent
NEWEST_TRIED = {"trl": "1.16.0", "peft": "0.21.2", "transformers": "5.24.0"}
"""The newest releases that the suite passes with. Whoever tries newer ones changes this and what the test names."""
TOKENISED = [{"input_ids": [1, *range(10, 20), 2], "labels": [-100] * 6 + [*range(15, 20), 2]}] * 8


@pytest.mark.parametrize("name", NEWEST_TRIED)
def test_the_newest_release_that_was_tried_is_installed_and_pinned_and_no_later_one_is_allowed(name):
    """Fixes of it are allowed, the next minor release is not."""
    tried = Version(NEWEST_TRIED[name])
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (allowed,) = [one.specifier for one in map(Requirement, project["dependencies"]) if one.name == name]
    assert (version(name), constraints[name]) == (str(tried), str(tried))
    assert allowed.contains(tried)
    assert allowed.contains(f"{tried.major}.{tried.minor}.{tried.micro + 1}")
    assert not allowed.contains(f"{tried.major}.{tried.minor + 1}.0")


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_methods_that_the_trainer_overrides_keep_their_arguments():
    assert parameters(SFTTrainer._prepare_dataset) == [
        "self", "dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name",
    ]  # fmt: skip
    assert parameters(SFTTrainer.compute_loss) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    assert parameters(Trainer.get_batch_samples) == ["self", "epoch_iterator", "num_batches", "device"]
    assert parameters(Trainer._save) == ["self", "output_dir", "state_dict"]
    assert parameters(Trainer.save_model) == ["self", "output_dir", "_internal_call"]
    assert parameters(Trainer._load_from_checkpoint) == ["self", "resume_from_checkpoint", "model"]
    assert parameters(SFTTrainer._save_checkpoint) == ["self", "model", "trial"]
    assert parameters(Trainer._save_rng_state) == ["self", "output_dir"]
    assert parameters(Trainer._load_rng_state) == ["self", "checkpoint"]
    assert "epoch" in parameters(Trainer._run_epoch)
    assert parameters(Trainer._init_training_state) == [
        "self", "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial",
    ]  # fmt: skip
    assert parameters(Trainer._get_grad_norm) == ["self", "model", "grad_norm"]
    assert parameters(SFTTrainer.log) == ["self", "logs", "start_time"]
    assert parameters(Trainer.evaluation_loop) == [
        "self", "dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix",
    ]  # fmt: skip
    assert parameters(SFTTrainer.__init__)[:7] == [
        "self", "model", "args", "data_collator", "train_dataset", "eval_dataset", "processing_class",
    ]  # fmt: skip


def test_the_fused_output_has_the_fields_that_are_read():
    assert {"log_probs", "label_mask", "aux_loss"} <= {field.name for field in fields(FusedCausalLMOutput)}


def test_the_fused_head_calls_the_base_model_and_scores_its_hidden_states_against_shifted_labels():
    """Hooks on `model.base_model` change its inputs and its last hidden state, and the head takes what it is given."""
    model = tiny_llama().eval()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    input_ids = torch.arange(3, 15)[None]
    labels = input_ids[:, 4:8]
    seen = {}

    def put_in(module, args, kwargs):
        seen["kwargs"] = set(kwargs)
        return args, kwargs | {"input_ids": input_ids}

    def take_out(module, args, output):
        output.last_hidden_state = output.last_hidden_state[:, 3:7]
        return output

    model.base_model.register_forward_pre_hook(put_in, with_kwargs=True)
    model.base_model.register_forward_hook(take_out)
    with torch.no_grad():
        fused = model(fused_lm_head=True, shift_labels=labels)
    assert "use_cache" in seen["kwargs"]

    plain = tiny_llama().eval()
    with torch.no_grad():
        log_probs = plain(input_ids).logits.log_softmax(-1)[:, 3:7].gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(fused.log_probs, log_probs)


def test_the_kernel_of_the_fused_head_keeps_its_arguments_and_its_tiles():
    """`token_log_probs` calls it as the head does; its values and gradients are held by the tests of the losses."""
    assert parameters(ChunkedLogProbFunction.forward) == [
        "ctx", "hidden", "weight", "bias", "targets", "temperature", "chunk_size", "final_logit_softcapping",
        "logit_scale", "outputs",
    ]  # fmt: skip
    assert VOCABULARY_CHUNK == _CHUNKED_LOGPROB_CHUNK_SIZE


def test_the_helpers_that_are_used_mean_what_they_did():
    assert common_prefix_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix_length("abc", "abd") == 2


# --- what SFTTrainer holds, and when it calls what


class Calls:
    """Calls a model and keeps the keywords of each call."""

    def __init__(self, model):
        self.model = model
        self.keywords: list[dict] = []

    def __call__(self, **keywords):
        self.keywords.append(keywords)
        return self.model(**keywords)


class Watched(SFTTrainer):
    """Keeps what `compute_loss`, `training_step` and `log` were given and gave."""

    _tag_names = ["ours"]  # noqa: RUF012 (as TRL declares it)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.micro_batches: list[dict] = []
        self.step_losses: list[float] = []
        self.logs: list[dict] = []

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        calls = Calls(model)
        loss = super().compute_loss(calls, inputs, return_outputs, num_items_in_batch)
        self.micro_batches.append(
            {
                "loss": loss.item(),
                "forwards": [keywords.get("fused_lm_head") for keywords in calls.keywords],
                "items": num_items_in_batch,
                "accumulation": getattr(self, "current_gradient_accumulation_steps", None),
            }
        )
        return loss

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.step_losses.append(loss.item())
        return loss

    def log(self, logs, start_time=None):
        self.logs.append(dict(logs))
        logs["ours"] = 1.0
        super().log(logs, start_time)


def watched(
    tmp_path, model: PreTrainedModel | None = None, rows=TOKENISED, data_collator=None, kind=Watched, **overrides
):
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 2,
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return kind(
        model if model is not None else tiny_llama(),
        SFTConfig(**settings | overrides),
        data_collator=data_collator,
        train_dataset=Dataset.from_list(rows),
        eval_dataset={"first": Dataset.from_list(rows[:2]), "second": Dataset.from_list(rows[:2])},
        processing_class=tiny_tokenizer(),
    )


def test_the_trainer_holds_its_tokenizer_and_label_smoother(tmp_path):
    """The padding token is the tokenizer's; with label smoothing TRL adds no router loss of its own."""
    trainer = watched(tmp_path)
    assert trainer._tokenizer is trainer.processing_class
    assert trainer._tokenizer.pad_token_id == 2
    assert trainer.label_smoother is None
    assert watched(tmp_path, label_smoothing_factor=0.1).label_smoother is not None


def test_the_tags_of_a_subclass_reach_the_model(tmp_path):
    """They are a class attribute that TRL reads."""
    assert watched(tmp_path).model.model_tags == ["ours"]


@pytest.mark.parametrize(
    ("settings", "is_enabled", "coefficient"),
    [
        ({"router_aux_loss_coef": 0.25}, True, 0.25),
        ({"router_aux_loss_coef": 0.0}, False, 0.0),
    ],
)
def test_the_router_loss_is_on_where_the_config_has_a_coefficient(settings, is_enabled, coefficient, tmp_path):
    trainer = watched(tmp_path, tiny_model("mixtral", vocab_size=320, **settings))
    assert trainer.aux_loss_enabled is is_enabled
    assert trainer.router_aux_loss_coef == coefficient


def test_a_dense_model_has_no_router_loss(tmp_path):
    assert watched(tmp_path).aux_loss_enabled is False


def test_the_loss_of_a_micro_batch_takes_one_fused_forward(tmp_path):
    """Its output is the one that the views' embeddings come with; in evaluation too."""
    trainer = watched(tmp_path)
    trainer.train()
    trainer.evaluate()
    assert [batch["forwards"] for batch in trainer.micro_batches] == [[True]] * 6


def test_gradient_accumulation_is_counted_in_the_micro_batches_that_a_step_has(tmp_path):
    """Four micro-batches, three to a step: the last step has one."""
    trainer = watched(tmp_path, gradient_accumulation_steps=3)
    trainer.train()
    assert [batch["accumulation"] for batch in trainer.micro_batches] == [3, 3, 3, 1]


def test_the_router_loss_is_a_mean_over_the_micro_batches_of_a_step(tmp_path):
    """What `_router_loss` takes away again; alike rows give alike micro-batches."""
    model = tiny_model("mixtral", vocab_size=320, router_aux_loss_coef=0.5)
    trainer = watched(tmp_path, model, gradient_accumulation_steps=2, learning_rate=0.0)
    trainer.train()
    trainer.router_aux_loss_coef = 0.0
    with_router, trainer.micro_batches = trainer.micro_batches, []
    aux_loss = next(entry["aux_loss"] for entry in trainer.state.log_history if "aux_loss" in entry)
    trainer.train()
    for batch, without in zip(with_router, trainer.micro_batches, strict=True):
        assert batch["loss"] - without["loss"] == pytest.approx(0.5 * aux_loss / 2, rel=1e-4)


@pytest.mark.parametrize("accepts", [True, False])
def test_a_loss_that_knows_the_counts_of_its_step_is_not_divided_again(accepts, tmp_path):
    """`model_accepts_loss_kwargs`: the labelled tokens of the step are handed in, or micro-batches are averaged."""
    trainer = watched(tmp_path, gradient_accumulation_steps=2)
    trainer.model_accepts_loss_kwargs = accepts
    trainer.train()
    losses = [batch["loss"] for batch in trainer.micro_batches]
    assert [batch["items"] for batch in trainer.micro_batches] == [24 if accepts else None] * 4
    assert trainer.step_losses == pytest.approx([loss if accepts else loss / 2 for loss in losses], rel=1e-6)


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_columns_that_are_named_reach_the_collator_and_no_others(is_stream, tmp_path):
    """`_signature_columns`, once set, is what stays of a row."""
    seen = []

    def collate(rows):
        seen.extend(sorted(row) for row in rows)
        return {"input_ids": torch.tensor([row["input_ids"] for row in rows])}

    rows = [row | {"kept": 1, "left_out": 2} for row in TOKENISED]
    trainer = watched(tmp_path, rows=rows, data_collator=collate)
    trainer._signature_columns = ["input_ids", "labels", "kept", "of_other_data"]
    if is_stream:
        trainer.train_dataset = Dataset.from_list(rows).to_iterable_dataset()
    next(iter(trainer.get_train_dataloader()))
    assert seen[:2] == [["input_ids", "kept", "labels"]] * 2


def test_an_evaluation_logs_under_its_prefix_what_log_adds_is_returned_and_a_prediction_logs_nothing(tmp_path):
    """Several evaluation sets are told apart by the prefix, which the loop is given by name."""
    trainer = watched(tmp_path)
    prefixes = []
    evaluation_loop = trainer.evaluation_loop

    def loop(*args, **kwargs):
        prefixes.append(kwargs["metric_key_prefix"])
        return evaluation_loop(*args, **kwargs)

    trainer.evaluation_loop = loop
    metrics = trainer.evaluate()
    assert prefixes == ["eval_first", "eval_second"]
    for logs, prefix in zip(trainer.logs, prefixes, strict=True):
        assert [key for key in logs if key.endswith("_samples_per_second")] == [f"{prefix}_samples_per_second"]
    assert metrics["ours"] == 1.0
    trainer.args.prediction_loss_only = True
    trainer.predict(trainer.eval_dataset["first"])
    assert prefixes[2:] == ["test"]
    assert len(trainer.logs) == 2


# --- what a checkpoint is made of


class Saving(Watched):
    """Keeps the files of a checkpoint at the moment of the random state, the last but one to be written."""

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        self.files_then = {path.name for path in Path(output_dir).iterdir()}
        self.window_then = (self._tr_loss.item(), self._globalstep_last_logged, self._total_train_tokens)
        self.metrics_then = {name: list(values) for name, values in self._metrics["train"].items()}


def test_the_state_is_written_last_after_the_random_state_and_before_older_checkpoints_are_deleted(
    tmp_path, monkeypatch
):
    there = {}
    monkeypatch.setattr(
        "transformers.trainer.rotate_checkpoints",
        lambda **_: there.update(files={path.name for path in (tmp_path / "checkpoint-3").iterdir()}),
    )
    trainer = saving(tmp_path)
    assert "optimizer.pt" in trainer.files_then
    assert there["files"] - trainer.files_then == {"trainer_state.json"}


def test_the_open_window_of_the_log_is_in_these_attributes(tmp_path):
    """Of step 3, after a log at step 2: the loss, the step of that log, all tokens so far, TRL's metrics."""
    trainer = saving(tmp_path)
    losses, tokens = trainer.step_losses, 2 * len(TOKENISED[0]["input_ids"])
    assert trainer.window_then == (pytest.approx(losses[2]), 2, 3 * tokens)
    assert {name: len(values) for name, values in trainer.metrics_then.items()} == {
        "entropy": 1, "mean_token_accuracy": 1, "num_tokens": 1,
    }  # fmt: skip


def saving(tmp_path) -> Saving:
    """Trained for three steps, logged every two, saved after the third."""
    settings = {"max_steps": 3, "logging_steps": 2, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 1}
    trainer = watched(tmp_path, kind=Saving, **settings)
    trainer.train()
    return trainer


def test_a_trainer_that_pushes_asks_for_its_repository_at_the_start_and_publishes_when_it_saves_for_the_user(tmp_path):
    """`PublishingTrainer` puts off the former and leaves the latter to the end of the run."""
    asked = []

    class Recorder(SFTTrainer):
        def init_hf_repo(self, *args, **kwargs):
            asked.append("repository")

        def push_to_hub(self, *args, **kwargs):
            asked.append("push")

    args = SFTConfig(str(tmp_path), push_to_hub=True, bf16=False, report_to="none")
    dataset = Dataset.from_list([{"text": "a"}])
    trainer = Recorder(tiny_llama(), args, train_dataset=dataset, processing_class=tiny_tokenizer())
    assert asked == ["repository"]
    trainer.save_model()
    trainer.save_model(_internal_call=True)
    assert asked == ["repository", "push"]


def test_assisted_generation_asks_the_model_for_its_candidates_and_tells_them_what_was_accepted():
    """`Drafter` puts a method of its own in the place of `_get_candidate_generator`, and reads the text's limit."""
    model, calls = tiny_llama().eval(), []

    class Candidates(CandidateGenerator):
        def get_candidates(self, input_ids, **kwargs):
            calls.append(("draft", input_ids.shape[1]))
            return torch.cat([input_ids, input_ids[:, :2]], dim=1), None

        def update_candidate_strategy(self, input_ids, scores, num_matches):
            calls.append(("update", input_ids.shape[1]))

    def candidate_generator(generation_config, **_):
        calls.append(("limit", generation_config.max_length))
        return Candidates()

    model._get_candidate_generator = candidate_generator
    options = {"max_new_tokens": 3, "do_sample": False, "prompt_lookup_num_tokens": 1, "eos_token_id": []}
    text = model.generate(input_ids=torch.arange(3, 8)[None], **options)
    assert calls[:3] == [("limit", 8), ("draft", 5), ("update", calls[2][1])]
    assert [name for name, _ in calls[1:]] == ["draft", "update"] * (len(calls) // 2)
    assert calls[-1] == ("update", text.shape[1]) == ("update", 8)
    assert not CandidateGenerator.requires_model_outputs


def test_a_cache_says_whether_it_can_be_cropped_and_a_layer_takes_one_by_its_name():
    output = tiny_llama().eval()(input_ids=torch.arange(3, 8)[None], use_cache=True)
    assert output[CACHE_ARGUMENT].is_croppable
    assert CACHE_ARGUMENT in parameters(LlamaDecoderLayer.forward)
