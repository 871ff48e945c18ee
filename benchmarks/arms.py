"""The arms of a comparison: their settings, their rows, and a fresh trainer of each."""

import argparse
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import ScriptArguments, SFTConfig, SFTTrainer

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.loading import load_split
from llm_jepa.data.rows import is_tokenised, to_rows
from llm_jepa.preparers.nl_rx_grammar import draw_pairs

BASELINE = "sft"
LABELLED = "sft_labelled"
DROPOUT = 0.75
PREFIX_SG = {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"}
ARMS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "weight_0": {"jepa_weight": 0.0},
    LABELLED: {"jepa_objective": "tube", "jepa_dropout": 1 - 1e-9},
    "alone": {"jepa_source_view": "alone", "jepa_target": "online"},
    "prefix": {"jepa_source_view": "prefix", "jepa_target": "online"},
    "prefix_sg": PREFIX_SG,
    "prefix_sg_dropout": PREFIX_SG | {"jepa_dropout": DROPOUT, "jepa_dropout_rescale": True},
    "tube": {"jepa_objective": "tube", "jepa_weight": 0.02},
    "next_latent_1": {"jepa_objective": "next_latent", "rollout_steps": 1},
    "next_latent_2": {"jepa_objective": "next_latent", "rollout_steps": 2},
    "next_latent_1_detached": {"jepa_objective": "next_latent", "rollout_steps": 1, "detach_backbone": True},
    "next_latent_2_detached": {"jepa_objective": "next_latent", "rollout_steps": 2, "detach_backbone": True},
    "multi_token": {"jepa_objective": "multi_token", "num_future_tokens": 2},
    "answer_code": {"jepa_objective": "answer_code", "jepa_source_view": "prefix"},
    "ema": PREFIX_SG | {"jepa_target": "ema"},
    "sigreg": PREFIX_SG | {"jepa_regulariser": "sigreg"},
    "alone_rows": {"jepa_source_view": "alone", "jepa_target": "online", "jepa_layout": "rows"},
    "prefix_sg_rows": PREFIX_SG | {"jepa_layout": "rows"},
}
"""Name -> what it sets in `JEPAConfig`; the baseline is TRL's `SFTTrainer` itself.

`sft_labelled` drops the JEPA term in every step: SFT with the head on the labelled positions alone, which TRL does on
a GPU and not on a CPU. Those after `tube` are run when asked for.
"""
ASKED_ARMS = tuple(ARMS)[tuple(ARMS).index("tube") + 1 :]

SYSTEM_PROMPT = "Convert natural language to regular expression."
LOGGING_STEPS = 5  # as in the recipes; what a log costs falls into one step of five, in every arm


def load_model(options: argparse.Namespace, method: str) -> PreTrainedModel:
    """The model, always with the same weights: float32 to train them all, bfloat16 as the frozen base of LoRA."""
    settings = {
        "dtype": torch.float32 if method == "full" else torch.bfloat16,
        "attn_implementation": options.attn_implementation,
    }
    if not options.from_scratch:
        return AutoModelForCausalLM.from_pretrained(options.model_path, **settings)
    torch.manual_seed(options.seed)
    with torch.device(options.device):  # a GPU draws a billion numbers in no time
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model_path), **settings)


def lora_of(method: str) -> LoraConfig | None:
    """The adapters of a method, those of the LoRA recipe."""
    if method == "full":
        return None
    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def prepared_rows(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> dict[str, Dataset]:
    """Tokenised rows for every arm, the same ones in the same order.

    Raises:
        ValueError: The data cannot be read, or are too few for one round.
    """
    datasets = {arm: _prepared(arm, options, tokenizer) for arm in options.arms}
    kept = set.intersection(*(set(dataset["row_index"]) for dataset in datasets.values()))
    needed = (options.warmup + options.steps) * options.batch_size
    if len(kept) < needed:
        raise ValueError(
            f"A round of {options.warmup} + {options.steps} steps of {options.batch_size} rows needs {needed} rows; "
            f"there are {len(kept)} of at most {options.max_length} tokens. Give more `--data`, or lower `--steps`."
        )
    return {
        arm: Dataset.from_list([row for row in dataset if row["row_index"] in kept], features=dataset.features)
        for arm, dataset in datasets.items()
    }


def new_trainer(
    arm: str,
    model: PreTrainedModel,
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    options: argparse.Namespace,
    lora: LoraConfig | None = None,
    callbacks: list[TrainerCallback] | None = None,
    **settings: Any,
) -> SFTTrainer:
    """A silent trainer of an arm; `settings` go over those that all arms share."""
    shared = {
        "per_device_train_batch_size": options.batch_size,
        "use_cpu": options.device == "cpu",
        "bf16": True,
        "gradient_checkpointing": options.gradient_checkpointing,
        "completion_only_loss": True,
        "max_length": None,
        "logging_steps": LOGGING_STEPS,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    } | settings
    keywords = {"train_dataset": dataset, "processing_class": tokenizer, "peft_config": lora, "callbacks": callbacks}
    if arm == BASELINE:
        trainer = SFTTrainer(model, SFTConfig(**shared), **keywords)
    else:
        own = dict(ARMS[arm])
        if "jepa_source_view" in own:
            own["num_predictor_tokens"] = options.num_predictor_tokens
        trainer = JEPATrainer(model, JEPAConfig(**shared, **own), **keywords)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _prepared(arm: str, options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """The rows of an arm as its own trainer prepares them, on a stand-in model of no size."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    settings: dict[str, Any] = {"output_dir": options.output_dir}
    if options.scaling:
        rows = synthetic_rows(options, len(tokenizer), shares_prefix=ARMS[arm].get("jepa_source_view") == "prefix")
    else:
        rows, mapping = _pairs(options)
        if arm == BASELINE:
            rows = to_rows(rows, mapping, tokenizer.chat_template is not None).remove_columns(["source", "target"])
        else:
            settings |= {"max_length": options.max_length, **vars(mapping)}
    if arm == BASELINE and is_tokenised(rows):
        rows = rows.select_columns(["input_ids", "labels", "row_index"])
    return new_trainer(arm, LlamaForCausalLM(config), rows, tokenizer, options, **settings).train_dataset


def _pairs(options: argparse.Namespace) -> tuple[Dataset, ColumnMapping]:
    """As many rows of the data as the rounds can use, drawn at random, and where their views are."""
    wanted = options.rounds * (options.warmup + options.steps) * options.batch_size
    if options.data is None:
        pairs = draw_pairs(wanted, options.seed).pairs
        return Dataset.from_list([pair._asdict() for pair in pairs]), ColumnMapping("source", "target", SYSTEM_PROMPT)
    rows = load_split(ScriptArguments(dataset_name=options.data), "train")
    assert isinstance(rows, Dataset), "only streams are not"
    rows = rows.shuffle(seed=options.seed).select(range(min(wanted, len(rows))))
    return rows, ColumnMapping(options.source_column, options.target_column)


def synthetic_rows(options: argparse.Namespace, vocabulary_tokens: int, shares_prefix: bool) -> Dataset:
    """Rows of `options.length` random tokens, the first half the source and the second the target.

    A view that is encoded alone has tokens of its own, from the first one on, as it has behind a chat template:
    otherwise the packed layout would store it with the conversation.
    """
    generator = torch.Generator().manual_seed(options.seed)
    half = options.length // 2

    def draw(num_tokens: int, first: int) -> list[int]:
        return [first, *torch.randint(3, vocabulary_tokens, (num_tokens - 1,), generator=generator).tolist()]

    rows = []
    for row_index in range((options.warmup + options.steps) * options.batch_size):
        conversation, source, target = draw(options.length, 0), draw(half, 1), draw(options.length - half, 2)
        rows.append(
            {
                "input_ids": conversation,
                "labels": [-100] * half + conversation[half:],
                "source_ids": conversation[:half] if shares_prefix else source,
                "target_ids": target,
                "source_span": [1, half],
                "target_span": [half, options.length],
                "row_index": row_index,
            }
        )
    return Dataset.from_list(rows)
