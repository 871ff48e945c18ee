"""The section of a model card that `llm-jepa push` writes: one function for each of its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_jepa.config import JEPAConfig
from llm_jepa.hub.card_facts import (
    COLUMN_OPTIONS,
    JEPA_OPTIONS,
    TRAINING_OPTIONS,
    CardFacts,
    generation_settings,
    rate_of,
)
from llm_jepa.models.latent_predictor import has_views
from llm_jepa.scoring.tasks import TASK_SCORES, Rate, score_names
from llm_jepa.settings.objectives import (
    OBJECTIVE_OPTIONS,
    OBJECTIVES,
    PAIR_OPTIONS,
    objective_names,
    options_with_effect,
)

LOSS = "`loss = lm_weight * lm_loss + jepa_weight * jepa_loss`"
SFT_TEXT = "Next-token prediction alone (`jepa_weight: 0`)."
TUBE_TEXT = "Semantic Tube Prediction ([arXiv 2602.22617](https://arxiv.org/abs/2602.22617))"
OBJECTIVE_TEXTS = {
    "pair": "one view of a row predicts the embedding of the other (LLM-JEPA, [arXiv 2509.14252]"
    "(https://arxiv.org/abs/2509.14252))",
    "tube": TUBE_TEXT,
    "patch": f"{TUBE_TEXT} in the form of its reference code",
    "step": f"{TUBE_TEXT} between the ends of the target's steps ([arXiv 2604.18464]"
    "(https://arxiv.org/abs/2604.18464))",
    "next_latent": "a small network foretells the model's own next hidden states (NextLat, [arXiv 2511.05963]"
    "(https://arxiv.org/abs/2511.05963))",
    "answer_code": "one view predicts codes of the other, from which it can be written (Semformer, [arXiv 2409.11143]"
    "(https://arxiv.org/abs/2409.11143))",
    "multi_token": "further heads predict the tokens after the next ([arXiv 2404.19737]"
    "(https://arxiv.org/abs/2404.19737))",
}
"""Name of an objective -> what the loss has beside next-token prediction."""
OWN_TEXT = "a term of the authors' own, named below"
SEVERAL_TEXT = " `jepa_loss` is their sum, each times its weight of `objective_weights` (1 where none is shown)."
CONTROL_TEXT = " This is a control on wrong pairs: each row had the target view of another row (`shuffle_pairs`)."
COMPARED_KEYS = (
    "task", "dataset", "dataset_config", "split", "rows", "rows_digest", "prompts_digest", "precision",
    "max_new_tokens", "backend", "extract",
)  # fmt: skip
"""Keys of a scores file that two checkpoints must share to stand in one table. Some are not in older files."""
DEFAULT_OF_COMPARED = {"extract": "none"}
"""What a scores file leaves out."""


def card_section(facts: CardFacts) -> str:
    """The section as Markdown; parts without facts are left out."""
    parts = (_summary, _data, _objective, _results, cost, _loading, _latent)
    return "\n\n".join(text for part in parts if (text := part(facts)))


def _summary(facts: CardFacts) -> str:
    environment, base = facts.record.environment, facts.sources.base
    base_name = link(base.name, base.id) if base.name else "a base that is not named"
    if facts.is_from_scratch:
        made = f"A causal language model with the architecture of {base_name}, trained from random weights"
    elif facts.kind == "adapter":
        made = f"A PEFT adapter for {base_name}, fine-tuned"
    else:
        made = f"A causal language model made from {base_name}, fine-tuned"
    sentences = [f"{made} with the LLM-JEPA toolkit and published by its version {facts.version}."]
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    if versions:
        sentences.append(f"Trained with {versions}.")
    if environment.get("commit"):
        sentences.append(f"Trained at the toolkit's commit `{environment['commit']}`.")
    if facts.has_recipe:
        sentences.append("`recipe.yaml` has every setting.")
    text = " ".join(sentences)
    origin = None if facts.is_from_scratch else environment.get("base_origin")
    return f"{text}\n\nThe base's weights in training: {origin}" if origin else text


def _data(facts: CardFacts) -> str:
    settings = facts.record.settings
    return data_text(facts, [(settings.get(key), what) for key, what in COLUMN_OPTIONS.items()])


def data_text(facts: CardFacts, named: Sequence[tuple[str | None, str]]) -> str:
    """The part on the training data, with columns and what they are; empty if the data have no public name."""
    data = facts.sources.data
    if data.name is None:
        return ""
    columns = [f"`{column}` ({what})" for column, what in named if column is not None]
    split = facts.record.settings.get("dataset_train_split", "train")
    text = f"{link(data.name, data.id, 'datasets/')}, split `{split}`."
    return f"## Data\n\n{text}" + (f" Columns: {', '.join(columns)}." if columns else "")


def _objective(facts: CardFacts) -> str:
    settings = facts.record.settings
    if not settings:
        return ""
    options = {name: settings.get(name, JEPAConfig.__dataclass_fields__[name].default) for name in JEPA_OPTIONS}
    names = objective_names(options["jepa_objective"])
    if options["jepa_weight"] == 0:
        text, shown = SFT_TEXT, {}
    else:
        text = _loss_text(names)
        text += CONTROL_TEXT if options["shuffle_pairs"] else ""
        shown = {
            name: value
            for name, value in options.items()
            if value is not None and (name not in OBJECTIVE_OPTIONS or name in _with_effect(names))
        }
        shown["jepa_objective"] = [name if name in OBJECTIVES else Path(name).name for name in names]
    shown |= {name: settings[name] for name in TRAINING_OPTIONS if name in settings}
    return settings_table("Objective and settings", text, shown)


def settings_table(heading: str, text: str, shown: Mapping[str, Any]) -> str:
    """A part with a table of settings."""
    rows = [f"| `{name}` | {_cell(value)} |" for name, value in shown.items()]
    return "\n".join([f"## {heading}", "", text, "", "| setting | |", "|---|---|", *rows])


def _with_effect(objectives: Sequence[str]) -> frozenset[str]:
    """The options of objectives that a card shows; an objective of the authors' own may not be at hand."""
    known = [name for name in objectives if name in OBJECTIVES]
    return options_with_effect(known) | frozenset(PAIR_OPTIONS if len(known) < len(objectives) else ())


def _loss_text(objectives: Sequence[str]) -> str:
    terms = "; ".join(OBJECTIVE_TEXTS.get(name, OWN_TEXT) for name in objectives)
    return f"{LOSS}: next-token prediction, and {terms}." + (SEVERAL_TEXT if len(objectives) > 1 else "")


def _results(facts: CardFacts) -> str:
    tuned = facts.scores
    if tuned is None:
        return ""
    names = score_names(tuned["task"], tuned.get("extract", "none"))
    header = [f"| model | {' | '.join(names)} | n |", "|---" * (len(names) + 2) + "|"]
    rows = [
        _score_row(checkpoint, [rate_of(scores, name) for name in names])
        for checkpoint in ("base", "tuned")
        if (scores := facts.record.scores.get(checkpoint)) is not None and _are_comparable(scores, tuned)
    ]
    is_merged = facts.kind == "model" and bool(facts.record.settings.get("use_peft"))
    text = (
        "In % with the 95 % interval over rows (Wilson), on "
        f"{link(facts.scored_name, facts.sources.scored.id, 'datasets/')}, "
        f"split `{tuned['split']}`; {generation_settings(tuned)}; {tuned['date']}."
    )
    text += " The adapter was measured before it was merged." if is_merged else ""
    text += _left_out(tuned)
    if facts.num_rows_trained_on:
        text += f" The run trained on {facts.num_rows_trained_on} of the {tuned['rows']} evaluated rows."
    return "\n".join(["## Results", "", text, "", *header, *rows])


def _score_row(checkpoint: str, rates: Sequence[Rate]) -> str:
    return f"| {checkpoint} | {' | '.join(map(percent, rates))} | {rates[0].count} |"


def percent(rate: Rate) -> str:
    """A share in % with its interval."""
    if rate.interval is None:
        return "-"
    low, high = rate.interval
    return f"{100 * rate.fraction:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _left_out(scores: dict[str, Any]) -> str:
    """How many rows the task's own scores leave out, and why; empty if none."""
    reasons: dict[str, int] = scores.get("left_out", {})
    if not reasons:
        return ""
    names = ", ".join(f"`{name}`" for name in TASK_SCORES[scores["task"]])
    counted = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return f" {sum(reasons.values())} rows are left out of {names}: {counted}."


def _are_comparable(first: dict[str, Any], second: dict[str, Any]) -> bool:
    first, second = DEFAULT_OF_COMPARED | first, DEFAULT_OF_COMPARED | second
    return all(first.get(key) == second.get(key) for key in COMPARED_KEYS)


def cost(facts: CardFacts) -> str:
    """The part on what training took; empty if that is not known."""
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
    rows = [f"| {name} | {value} |" for name, value in figures.items() if value is not None]
    return "\n".join(["## Training cost", "", "| | |", "|---|---|", *rows])


def _loading(facts: CardFacts) -> str:
    if facts.kind == "model":
        loader, imports = "AutoModelForCausalLM", "from transformers import AutoModelForCausalLM, AutoTokenizer"
    else:
        loader = "AutoPeftModelForCausalLM"
        imports = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
    code = (
        f"```python\n{imports}\n\n"
        f'model = {loader}.from_pretrained("{facts.repo_id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{facts.repo_id}")\n```'
    )
    return "\n\n".join(["## How to load", code, _serving(facts)])


def _serving(facts: CardFacts) -> str:
    if facts.kind == "model":
        return f"```bash\nvllm serve {facts.repo_id}\n```"
    if not isinstance(facts.vllm_rank, int):
        return f"This is {facts.vllm_rank} To serve it, merge it into its base (`llm-jepa merge`)."
    revision = f" --revision {facts.sources.base_revision}" if facts.sources.base_revision else ""
    return (
        f"```bash\nvllm serve {facts.sources.base.id}{revision} --enable-lora --max-lora-rank {facts.vllm_rank} "
        f"--lora-modules {facts.name}={facts.repo_id}\n```"
    )


def _latent(facts: CardFacts) -> str:
    if facts.predictor is None:
        return ""
    names = ", ".join(f"`{name}`" for name in facts.predictor.objectives)
    text = (
        f"## Latent predictor\n\n`latent_predictor/` is what {names} trained beside the model, for inference with the "
        "LLM-JEPA toolkit; transformers, PEFT and vLLM ignore it."
    )
    if not has_views(facts.predictor):
        return text
    return (
        f"{text} It ranks answers by their embeddings, one forward for a query:\n\n```bash\n"
        f"hf download {facts.repo_id} --local-dir {facts.name}\n"
        f'llm-jepa answer {facts.name} --index answers --answers answers.txt --query "..."\n```'
    )


def _cell(value: Any) -> str:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in values]
    return ", ".join(f"`{text}`" for text in texts).replace("\n", "\\n").replace("|", "\\|")


def link(name: str, hub_id: str | None, prefix: str = "") -> str:
    """A name, with a link where the Hub has it."""
    return f"`{name}`" if hub_id is None else f"[{hub_id}](/{prefix}{hub_id})"
