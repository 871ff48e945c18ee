"""A model card of what is known of a run: data, objective, measured results, cost, and how to load what is published.

The card's section stands between two comments; whatever else the card says is its owner's and kept. Results are also
written as metadata, in the Hub's present form (`.eval_results`) and in the older one (`model-index`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, eval_result_entries_to_yaml

from llm_jepa.config import JEPAConfig
from llm_jepa.publication import Kind
from llm_jepa.run_record import RunRecord
from llm_jepa.scoring.tasks import TASK_SCORES, Rate, score_names

BEGIN = "<!-- llm-jepa: `llm-jepa push` writes anew what stands from here to the end mark, and nothing else -->"
END = "<!-- llm-jepa: end -->"
NO_METADATA = "---\nlibrary_name: transformers\n---\n"
OUR_EVALUATION = "llm-jepa eval"
"""Tells the results in `model-index` that are ours to replace."""
TAGS = ("llm-jepa", "trl", "sft")
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


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes:
        repo_id: Where it is published.
        base_model, dataset: By what name others know them; `base_id` and `dataset_id` are Hub ids or None.
        vllm_rank: The `max_lora_rank` that vLLM needs for the adapter, or why vLLM does not take it.
        version: Of the toolkit that publishes.
    """

    repo_id: str
    kind: Kind
    record: RunRecord
    base_model: str | None
    base_id: str | None
    dataset: str | None
    dataset_id: str | None
    vllm_rank: int | str | None
    version: str

    @property
    def name(self) -> str:
        return self.repo_id.split("/")[-1]

    @property
    def _scores_own_data(self) -> bool:
        """Whether what was scored is the data set of the recipe."""
        return self.record.scores["tuned"]["dataset"] == self.record.settings.get("dataset_name")

    @property
    def scored_id(self) -> str | None:
        return self.dataset_id if self._scores_own_data else None

    @property
    def scored_name(self) -> str:
        name = self.dataset if self._scores_own_data else None
        return name or Path(self.record.scores["tuned"]["dataset"]).name


def write_card(facts: CardFacts, existing: str | None) -> str:
    """The card's text: the existing one with our section written anew, or a new one."""
    section = f"{BEGIN}\n\n{_section(facts)}\n\n{END}\n"
    if existing is None:
        card = ModelCard(f"{NO_METADATA}\n# {facts.name}\n\n{section}")
    else:
        card = _read_card(existing, facts.repo_id)
        card.text = _replace_section(card.text, section)
    _set_metadata(card, facts)
    return str(card)


def results_yaml(facts: CardFacts) -> str | None:
    """The headline score in the form of `.eval_results/*.yaml`; None without one, or for data that no Hub has."""
    scores = facts.record.scores.get("tuned")
    if scores is None or facts.scored_id is None:
        return None
    headline = (*TASK_SCORES[scores["task"]], "strict")[0]
    rate = Rate(**scores["scores"][headline])
    entry = EvalResultEntry(
        dataset_id=facts.scored_id,
        task_id=scores["dataset_config"] or "default",
        value=_percent(rate),
        date=scores["date"],
        notes=f"{headline}, % of {rate.count} rows of `{scores['split']}`; {_conditions(scores)}",
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def _read_card(existing: str, repo_id: str) -> ModelCard:
    try:
        return ModelCard(existing if existing.startswith("---") else f"{NO_METADATA}\n{existing}", True)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{repo_id}: the metadata at the top of its README.md cannot be read ({error}). Nothing was published: "
            "mend them on the Hub."
        ) from error


def _replace_section(text: str, section: str) -> str:
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        return f"{text.rstrip()}\n\n{section}" if text.strip() else f"\n{section}"
    return text[:begin] + section.rstrip() + text[end + len(END) :]


def _set_metadata(card: ModelCard, facts: CardFacts) -> None:
    data: Any = card.data
    data.library_name = "peft" if facts.kind == "adapter" else "transformers"
    data.pipeline_tag = "text-generation"
    data.tags = list(dict.fromkeys([*(data.tags or []), *TAGS]))
    if facts.base_id is not None:
        data.base_model = facts.base_id
        data.base_model_relation = "adapter" if facts.kind == "adapter" else "finetune"
    if facts.dataset_id is not None:
        there = [data.datasets] if isinstance(data.datasets, str) else data.datasets or []
        data.datasets = list(dict.fromkeys([*there, facts.dataset_id]))
    others = [one for one in data.eval_results or [] if one.task_name != OUR_EVALUATION]
    data.eval_results = (others + _eval_results(facts)) or None
    data.model_name = None if data.eval_results is None else data.model_name or facts.name


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    scores = facts.record.scores.get("tuned")
    if scores is None:
        return []
    return [
        EvalResult(
            task_type="text-generation",
            task_name=OUR_EVALUATION,
            dataset_type=facts.scored_id or facts.scored_name,
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
    base = _link(facts.base_model, facts.base_id) if facts.base_model else "a base that is not named"
    environment = facts.record.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    commit = f" Trained at the toolkit's commit `{environment['commit']}`." if environment.get("commit") else ""
    trained = f" Trained with {versions}." if versions else ""
    origin = (
        f"\n\nThe base's weights in training: {environment['base_origin']}" if environment.get("base_origin") else ""
    )
    recipe = " `recipe.yaml` has every setting." if facts.record.settings else ""
    return (
        f"{kind} {base}, fine-tuned with the LLM-JEPA toolkit and published by its version {facts.version}."
        f"{trained}{commit}{recipe}{origin}"
    )


def _data(facts: CardFacts) -> str:
    settings = facts.record.settings
    if facts.dataset is None:
        return ""
    named = [(settings.get(f"{view}_column"), view) for view in ("source", "target")]
    columns = [f"`{column}` ({view})" for column, view in named if column is not None]
    split = settings.get("dataset_train_split", "train")
    lines = [f"{_link(facts.dataset, facts.dataset_id, 'datasets/')}, split `{split}`."]
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
        shown = {name: shown[name] for name in shown if name in settings or name.endswith(("objective", "weight"))}
    shown |= {name: settings[name] for name in TRAINING_OPTIONS if name in settings}
    rows = [f"| `{name}` | {_cell(value)} |" for name, value in shown.items()]
    return "\n".join(["## Objective and settings", "", text, "", "| setting | |", "|---|---|", *rows])


def _results(facts: CardFacts) -> str:
    scores = facts.record.scores
    tuned = scores.get("tuned")
    if tuned is None:
        return ""
    alike = [arm for arm in ("base", "tuned") if arm in scores and _comparable(scores[arm]) == _comparable(tuned)]
    names = score_names(tuned["task"])
    lines = [f"| model | {' | '.join(names)} | n |", "|---" * (len(names) + 2) + "|"]
    for arm in alike:
        rates = [Rate(**scores[arm]["scores"][name]) for name in names]
        shown = [
            f"{100 * rate.fraction:.1f} ± {100 * rate.standard_error:.1f}" if rate.count else "-" for rate in rates
        ]
        lines.append(f"| {arm} | {' | '.join(shown)} | {rates[0].count} |")
    merged = " The adapter was measured before it was merged." if facts.kind == "model" and _is_adapter(facts) else ""
    text = (
        f"In % ± standard error, on {_link(facts.scored_name, facts.scored_id, 'datasets/')}, "
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
        served = (
            f"```bash\nvllm serve {facts.base_id} --enable-lora --max-lora-rank {facts.vllm_rank} "
            f"--lora-modules {facts.name}={facts.repo_id}\n```"
        )
    else:
        served = f"This is {facts.vllm_rank} Merged into its base it is served (llm-jepa merge)."
    return "\n\n".join(["## How to load", plain, served])


def _conditions(scores: dict[str, Any]) -> str:
    return f"greedy, up to {scores['max_new_tokens']} new tokens, {scores['backend']}"


def _comparable(scores: dict[str, Any]) -> list[Any]:
    """What two arms must share to stand in one table."""
    return [value for name, value in sorted(scores.items()) if name not in ("scores", "date", "arm")]


def _is_adapter(facts: CardFacts) -> bool:
    return bool(facts.record.settings.get("use_peft"))


def _percent(rate: Rate) -> float:
    return round(100 * rate.fraction, 2)


def _cell(value: Any) -> str:
    shown: Sequence[Any] = value if isinstance(value, list) else [value]
    return ", ".join(f"`{str(item).lower() if isinstance(item, bool) else item}`" for item in shown)


def _link(name: str, hub_id: str | None, prefix: str = "") -> str:
    return f"`{name}`" if hub_id is None else f"[{hub_id}](/{prefix}{hub_id})"
