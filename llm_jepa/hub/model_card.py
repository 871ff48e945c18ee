"""A model card of what is known of a run: data, objective, measured results, cost, and how to load what is published.

The card's section stands between two comments; whatever else the card says is its owner's and kept. Results are also
written as metadata, in the Hub's present form (`.eval_results`) and in the older one (`model-index`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from llm_jepa.config import JEPAConfig
from llm_jepa.hub.card_editing import (
    EVALUATION_NAME,
    SECTION_BEGIN,
    SECTION_END,
    model_index,
    read_metadata,
    with_metadata,
    with_section,
)
from llm_jepa.hub.publication import ArtifactKind
from llm_jepa.hub.sources import Sources
from llm_jepa.runs.record import RunRecord
from llm_jepa.scoring.tasks import TASK_SCORES, Rate, score_names
from llm_jepa.settings.checks import PAIR_OPTIONS

TAGS = ("llm-jepa", "trl", "sft")
LIBRARIES: dict[ArtifactKind, str] = {"adapter": "peft", "model": "transformers"}
JEPA_OPTIONS = (
    "jepa_objective", "jepa_weight", "lm_weight", "jepa_loss", "info_nce_temperature", "jepa_direction",
    "jepa_source_view", "jepa_target", "num_predictor_tokens", "predictor_position", "span_sampler", "jepa_dropout",
    "jepa_dropout_rescale",
)  # fmt: skip
TRAINING_OPTIONS = (
    "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "max_length", "seed", "dtype", "bf16", "fp16", "load_in_4bit", "load_in_8bit",
    "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules",
)  # fmt: skip


MEASURED_ON = ("task", "dataset", "dataset_config", "split", "rows", "max_new_tokens", "backend")
"""What the scores of two checkpoints must share to stand in one table."""
CARD_SETTINGS = (*JEPA_OPTIONS, *TRAINING_OPTIONS, "source_column", "target_column")
"""The settings that a card shows."""


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes:
        repo_id: Where it is published.
        has_recipe: Whether the settings are a recipe, which is published too.
        vllm_rank: The `max_lora_rank` that vLLM needs for the adapter, or why vLLM does not take it.
        version: Of the toolkit that publishes.
    """

    repo_id: str
    kind: ArtifactKind
    record: RunRecord
    has_recipe: bool
    sources: Sources
    vllm_rank: int | str | None
    version: str

    @property
    def name(self) -> str:
        return self.repo_id.split("/")[-1]

    @property
    def scored_name(self) -> str:
        return self.sources.scored.name or "data that are not public"


def write_card(facts: CardFacts, existing: str | None) -> str:
    """The card's text: the existing one with our section and metadata written anew, or a new one.

    Raises:
        ValueError: What is ours in the existing one cannot be told from the rest.
    """
    section = f"{SECTION_BEGIN}\n\n{_section(facts)}\n\n{SECTION_END}\n"
    if existing is None:
        return with_metadata(f"# {facts.name}\n\n{section}", _metadata(facts, {}))
    line_break = "\r\n" if "\r\n" in existing else "\n"
    card = existing.replace("\r\n", "\n")
    try:
        card = with_metadata(with_section(card, section), _metadata(facts, read_metadata(card)))
    except ValueError as error:
        raise ValueError(
            f"{facts.repo_id}: its README.md is left as it is: {error}. Nothing was published: mend it on the Hub."
        ) from error
    return card.replace("\n", line_break)


def draft_card(name: str, kind: ArtifactKind) -> str:
    """The card of a run that is not published: in place of TRL's and PEFT's, whose base may be a path."""
    text = (
        f"# {name}\n\nTrained with the toolkit for LLM-JEPA; `recipe.yaml`, where there is one, says how. "
        "`llm-jepa push` publishes this directory, and in place of this card writes one with data, objective, "
        "measured results and cost.\n"
    )
    metadata = {"library_name": LIBRARIES[kind], "pipeline_tag": "text-generation", "tags": [*TAGS]}
    return with_metadata(text, metadata)


def results_yaml(facts: CardFacts) -> str | None:
    """The headline score in the form of `.eval_results/*.yaml`; None without one, or for data that no Hub has."""
    scores = facts.record.scores.get("tuned")
    if scores is None or facts.sources.scored.id is None:
        return None
    headline = (*TASK_SCORES[scores["task"]], "strict")[0]
    rate = Rate(**scores["scores"][headline])
    entry = EvalResultEntry(
        dataset_id=facts.sources.scored.id,
        task_id=scores["dataset_config"] or "default",
        value=_percent(rate),
        date=scores["date"],
        notes=f"{headline}, % of {rate.count} rows of `{scores['split']}`; {_conditions(scores)}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def _metadata(facts: CardFacts, there: dict[str, Any]) -> dict[str, Any]:
    """Our entries of a card's metadata, those that are lists with what they hold already."""
    base, data = facts.sources.base.id, facts.sources.data.id
    entries: dict[str, Any] = {
        "library_name": LIBRARIES[facts.kind],
        "pipeline_tag": "text-generation",
        "tags": _joined(there.get("tags"), TAGS),
    }
    if base is not None:
        entries |= {"base_model": base, "base_model_relation": "adapter" if facts.kind == "adapter" else "finetune"}
    if data is not None:
        entries["datasets"] = _joined(there.get("datasets"), [data])
    results = _eval_results(facts)
    ours = eval_results_to_model_index(facts.name, results)[0]["results"] if results else []
    return entries | {"model-index": model_index(there.get("model-index"), facts.name, ours)}


def _joined(there: Any, ours: Sequence[str]) -> list[Any]:
    return list(dict.fromkeys([*(there if isinstance(there, list) else [there] if there else []), *ours]))


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    scores = facts.record.scores.get("tuned")
    if scores is None:
        return []
    return [
        EvalResult(
            task_type="text-generation",
            task_name=EVALUATION_NAME,
            dataset_type=facts.sources.scored.id or facts.scored_name,
            dataset_name=facts.scored_name,
            dataset_config=scores["dataset_config"],
            dataset_split=scores["split"],
            metric_type=name,
            metric_name=f"{name}, %",
            metric_value=_percent(Rate(**scores["scores"][name])),
        )
        for name in score_names(scores["task"])
        if scores["scores"][name]["count"]
    ]


# --- the section


def _section(facts: CardFacts) -> str:
    parts = [_what_it_is(facts), _data(facts), _objective(facts), _results(facts), _cost(facts), _loading(facts)]
    return "\n\n".join(part for part in parts if part)


def _what_it_is(facts: CardFacts) -> str:
    kind = {"adapter": "A PEFT adapter for", "model": "A causal language model made from"}[facts.kind]
    base = (
        _link(facts.sources.base.name, facts.sources.base.id)
        if facts.sources.base.name
        else "a base that is not named"
    )
    environment = facts.record.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    commit = f" Trained at the toolkit's commit `{environment['commit']}`." if environment.get("commit") else ""
    trained = f" Trained with {versions}." if versions else ""
    origin = (
        f"\n\nThe base's weights in training: {environment['base_origin']}" if environment.get("base_origin") else ""
    )
    recipe = " `recipe.yaml` has every setting." if facts.has_recipe else ""
    return (
        f"{kind} {base}, fine-tuned with the LLM-JEPA toolkit and published by its version {facts.version}."
        f"{trained}{commit}{recipe}{origin}"
    )


def _data(facts: CardFacts) -> str:
    settings = facts.record.settings
    if facts.sources.data.name is None:
        return ""
    named = [(settings.get(f"{view}_column"), view) for view in ("source", "target")]
    columns = [f"`{column}` ({view})" for column, view in named if column is not None]
    split = settings.get("dataset_train_split", "train")
    lines = [f"{_link(facts.sources.data.name, facts.sources.data.id, 'datasets/')}, split `{split}`."]
    lines += [f"Columns: {', '.join(columns)}."] if columns else []
    return "## Data\n\n" + " ".join(lines)


def _objective(facts: CardFacts) -> str:
    settings = facts.record.settings
    if not settings:
        return ""
    values = {name: settings.get(name, JEPAConfig.__dataclass_fields__[name].default) for name in JEPA_OPTIONS}
    if values["jepa_weight"] == 0:
        text = "Next-token prediction alone (`jepa_weight: 0`)."
    elif values["jepa_objective"] == "pair":
        text = (
            "`loss = lm_weight * lm_loss + jepa_weight * jepa_loss`: next-token prediction, and one view of a row "
            "predicts the embedding of the other (LLM-JEPA, [arXiv 2509.14252](https://arxiv.org/abs/2509.14252)). "
            "The predictor tokens served training alone; they are not part of what is published."
        )
    else:
        text = (
            "`loss = lm_weight * lm_loss + jepa_weight * jepa_loss`: next-token prediction and Semantic Tube "
            "Prediction ([arXiv 2602.22617](https://arxiv.org/abs/2602.22617))."
        )
    shown = {} if values["jepa_weight"] == 0 else {name: value for name, value in values.items() if value is not None}
    if values["jepa_objective"] != "pair":
        shown = {name: value for name, value in shown.items() if name not in PAIR_OPTIONS}
    shown |= {name: settings[name] for name in TRAINING_OPTIONS if name in settings}
    rows = [f"| `{name}` | {_cell(value)} |" for name, value in shown.items()]
    return "\n".join(["## Objective and settings", "", text, "", "| setting | |", "|---|---|", *rows])


def _results(facts: CardFacts) -> str:
    scores = facts.record.scores
    tuned = scores.get("tuned")
    if tuned is None:
        return ""
    alike = [
        checkpoint
        for checkpoint in ("base", "tuned")
        if checkpoint in scores and _comparable(scores[checkpoint]) == _comparable(tuned)
    ]
    names = score_names(tuned["task"])
    lines = [f"| model | {' | '.join(names)} | n |", "|---" * (len(names) + 2) + "|"]
    for checkpoint in alike:
        rates = [Rate(**scores[checkpoint]["scores"][name]) for name in names]
        shown = [
            f"{100 * rate.fraction:.1f} ± {100 * rate.standard_error:.1f}" if rate.count else "-" for rate in rates
        ]
        lines.append(f"| {checkpoint} | {' | '.join(shown)} | {rates[0].count} |")
    merged = " The adapter was measured before it was merged." if facts.kind == "model" and _is_adapter(facts) else ""
    text = (
        f"In % ± standard error, on {_link(facts.scored_name, facts.sources.scored.id, 'datasets/')}, "
        f"split `{tuned['split']}`; {_conditions(tuned)}; {tuned['date']}.{merged}"
    )
    return "\n".join(["## Results", "", text, "", *lines])


def _cost(facts: CardFacts) -> str:
    state, environment = facts.record.state, facts.record.environment
    if state is None:
        return ""
    summary = next((entry for entry in reversed(state.log_history) if "train_runtime" in entry), {})
    tokens = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
    figures = {
        "optimizer steps": f"{state.global_step:,}",
        "epochs": f"{state.epoch:g}" if state.epoch is not None else None,
        "tokens": f"{tokens[-1]:,.0f}" if tokens else None,
        "seconds (of the last start)": f"{summary['train_runtime']:,.0f}" if summary else None,
        "processes and device": f"{environment['num_processes']} x {environment['device']}" if environment else None,
    }
    lines = [f"| {name} | {value} |" for name, value in figures.items() if value is not None]
    return "\n".join(["## Training cost", "", "| | |", "|---|---|", *lines])


def _loading(facts: CardFacts) -> str:
    package, loader = ("peft", "AutoPeftModelForCausalLM")
    if facts.kind == "model":
        package, loader = ("transformers", "AutoModelForCausalLM")
    imports = f"from {package} import {loader}\nfrom transformers import AutoTokenizer"
    if facts.kind == "model":
        imports = f"from {package} import {loader}, AutoTokenizer"
    plain = (
        f"```python\n{imports}\n\n"
        f'model = {loader}.from_pretrained("{facts.repo_id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.repo_id}")\n```'
    )
    if facts.kind == "model":
        served = f"```bash\nvllm serve {facts.repo_id}\n```"
    elif isinstance(facts.vllm_rank, int):
        revision = f" --revision {facts.sources.base_revision}" if facts.sources.base_revision else ""
        served = (
            f"```bash\nvllm serve {facts.sources.base.id}{revision} --enable-lora --max-lora-rank {facts.vllm_rank} "
            f"--lora-modules {facts.name}={facts.repo_id}\n```"
        )
    else:
        served = f"This is {facts.vllm_rank} Merged into its base it is served (llm-jepa merge)."
    return "\n\n".join(["## How to load", plain, served])


def _conditions(scores: dict[str, Any]) -> str:
    return f"greedy, up to {scores['max_new_tokens']} new tokens, {scores['backend']}"


def _comparable(scores: dict[str, Any]) -> list[Any]:
    """What two checkpoints must share to stand in one table."""
    return [scores.get(name) for name in MEASURED_ON]


def _is_adapter(facts: CardFacts) -> bool:
    return bool(facts.record.settings.get("use_peft"))


def _percent(rate: Rate) -> float:
    return round(100 * rate.fraction, 2)


def _cell(value: Any) -> str:
    shown: Sequence[Any] = value if isinstance(value, list) else [value]
    return ", ".join(f"`{str(item).lower() if isinstance(item, bool) else item}`" for item in shown)


def _link(name: str, hub_id: str | None, prefix: str = "") -> str:
    return f"`{name}`" if hub_id is None else f"[{hub_id}](/{prefix}{hub_id})"
