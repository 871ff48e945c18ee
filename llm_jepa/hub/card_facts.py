"""The facts that a model card is written from, and which settings it shows."""

from dataclasses import dataclass
from typing import Any

from llm_jepa.hub.sources import Sources
from llm_jepa.models.latent_predictor import PredictorFacts
from llm_jepa.models.local_files import ArtifactKind
from llm_jepa.runs.record import RunRecord
from llm_jepa.scoring.tasks import TASK_SCORES, Rate, score_names
from llm_jepa.settings.objectives import OBJECTIVE_OPTIONS

COLUMN_OPTIONS = {
    "source_column": "source", "target_column": "target", "source_view_column": "source view",
    "target_view_column": "target view",
}  # fmt: skip
"""Setting -> what the column is."""
JEPA_OPTIONS = (
    "jepa_objective", "objective_weights", "jepa_weight", "lm_weight",
    *(name for name in OBJECTIVE_OPTIONS if name not in COLUMN_OPTIONS),
    "span_sampler", "jepa_dropout", "jepa_dropout_rescale", "predictor_learning_rate",
)  # fmt: skip
TRAINING_OPTIONS = (
    "from_scratch", "learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "seed", "dtype", "bf16", "fp16",
    "load_in_4bit", "load_in_8bit", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules",
)  # fmt: skip
CARD_SETTINGS = (*JEPA_OPTIONS, *TRAINING_OPTIONS, *COLUMN_OPTIONS)
"""The settings that a card shows."""


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card says.

    Attributes:
        repo_id: The repository it is published in.
        has_recipe: Whether `record.settings` is a recipe, published as `recipe.yaml`.
        vllm_rank: The `max_lora_rank` that vLLM needs for the adapter, or the reason why vLLM cannot serve it.
        version: Version of the toolkit that publishes.
        predictor: The latent predictor that is published; None without one.
        text_decoder: What the published text decoder of a VL-JEPA model says of itself; None without one.
    """

    repo_id: str
    kind: ArtifactKind
    record: RunRecord
    has_recipe: bool
    sources: Sources
    vllm_rank: int | str | None
    version: str
    predictor: PredictorFacts | None = None
    text_decoder: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.split("/")[-1]

    @property
    def is_from_scratch(self) -> bool:
        """Whether training started from random weights: the base gave its architecture alone."""
        return bool(self.record.settings.get("from_scratch"))

    @property
    def scores(self) -> dict[str, Any] | None:
        """The scores of the tuned checkpoint; None if it was not evaluated."""
        return self.record.scores.get("tuned")

    @property
    def num_rows_trained_on(self) -> int:
        """How many of the scored rows the run trained on, as far as the evaluation knew."""
        return (self.scores or {}).get("rows_trained_on", 0)

    @property
    def scored_name(self) -> str:
        """A public name of the data that the model was scored on."""
        return self.sources.scored.name or "data that are not public"


def names_of(scores: dict[str, Any]) -> tuple[str, ...]:
    """The scores that the metadata have."""
    if "task" not in scores:  # of VL-JEPA
        return ("accuracy",)
    return score_names(scores["task"], scores.get("extract", "none"))


def headline_of(scores: dict[str, Any]) -> str:
    """The score that stands for a model."""
    return (*TASK_SCORES[scores["task"]], "strict")[0] if "task" in scores else names_of(scores)[0]


def rate_of(scores: dict[str, Any], name: str) -> Rate:
    """One score of a scores file."""
    rate = scores["scores"][name]
    return Rate(rate["hits"], rate["count"])


def generation_settings(scores: dict[str, Any]) -> str:
    """How the scored texts were generated, in words; answers of VL-JEPA are chosen."""
    if "backend" not in scores:
        return "the nearest candidate"
    return f"greedy, up to {scores['max_new_tokens']} new tokens, {scores['backend']}"
