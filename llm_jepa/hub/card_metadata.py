"""A card's metadata: base, data, and results in the Hub's current form (`.eval_results`) and as `model-index`."""

from collections.abc import Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from llm_jepa.hub.card_editing import EVALUATION_NAME, model_index
from llm_jepa.hub.card_facts import CardFacts, generation_settings, headline_of, names_of, rate_of
from llm_jepa.models.local_files import ArtifactKind
from llm_jepa.scoring.tasks import Rate

TAGS = ("llm-jepa", "trl", "sft")
VISION_TAGS = ("llm-jepa", "vl-jepa")
LIBRARIES: dict[ArtifactKind, str] = {"adapter": "peft", "model": "transformers", "vision": "llm-jepa"}


def kind_metadata(kind: ArtifactKind) -> dict[str, Any]:
    """The metadata of every adapter or model of this toolkit."""
    task, tags = ("visual-question-answering", VISION_TAGS) if kind == "vision" else ("text-generation", TAGS)
    return {"library_name": LIBRARIES[kind], "pipeline_tag": task, "tags": [*tags]}


def card_metadata(facts: CardFacts, existing: dict[str, Any]) -> dict[str, Any]:
    """The entries that a push writes; None removes one. Lists keep what the existing metadata holds."""
    base, data = facts.sources.base.id, facts.sources.data.id
    entries = kind_metadata(facts.kind)
    entries["tags"] = _extended(existing.get("tags"), entries["tags"])
    parts = [part.id for part in facts.sources.parts.values() if part.id is not None]
    if parts:
        entries["base_model"] = parts
    elif facts.is_from_scratch:
        entries |= {"base_model": None, "base_model_relation": None}
    elif base is not None:
        entries |= {"base_model": base, "base_model_relation": "adapter" if facts.kind == "adapter" else "finetune"}
    if data is not None:
        entries["datasets"] = _extended(existing.get("datasets"), [data])
    results = _eval_results(facts)
    ours = eval_results_to_model_index(facts.name, results)[0]["results"] if results else []
    return entries | {"model-index": model_index(existing.get("model-index"), facts.name, ours)}


def results_yaml(facts: CardFacts) -> str | None:
    """The headline score as `.eval_results/*.yaml`; None without scores, or if the Hub does not have the data."""
    scores = facts.scores
    if scores is None or facts.sources.scored.id is None:
        return None
    headline = headline_of(scores)
    rate = rate_of(scores, headline)
    notes = f"{headline}, % of {rate.count} rows of `{scores['split']}`; {generation_settings(scores)}"
    if facts.num_rows_trained_on:
        notes += f"; the run trained on {facts.num_rows_trained_on} of the evaluated rows"
    entry = EvalResultEntry(
        dataset_id=facts.sources.scored.id,
        task_id=scores.get("dataset_config") or "default",
        value=_percent(rate),
        date=scores["date"],
        notes=notes,
    )
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    """The entries of `model-index`: every score that counts at least one row."""
    scores = facts.scores
    if scores is None:
        return []
    return [
        EvalResult(
            task_type=kind_metadata(facts.kind)["pipeline_tag"],
            task_name=EVALUATION_NAME,
            dataset_type=facts.sources.scored.id or facts.scored_name,
            dataset_name=facts.scored_name,
            dataset_config=scores.get("dataset_config"),
            dataset_split=scores["split"],
            metric_type=name,
            metric_name=f"{name}, %",
            metric_value=_percent(rate_of(scores, name)),
        )
        for name in names_of(scores)
        if rate_of(scores, name).count
    ]


def _extended(existing: Any, ours: Sequence[str]) -> list[Any]:
    """A list of metadata with our items at its end, each item once; a single value counts as a list of one."""
    values = existing if isinstance(existing, list) else [existing] if existing else []
    return list(dict.fromkeys([*values, *ours]))


def _percent(rate: Rate) -> float:
    return round(100 * rate.fraction, 2)
