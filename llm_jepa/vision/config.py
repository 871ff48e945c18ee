"""`VisionConfig`: transformers' `TrainingArguments` and every option of VL-JEPA."""

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from llm_jepa.config import check_choices, is_plain_cpu_run, own_fields
from llm_jepa.data.source import DataSource
from llm_jepa.options.publication import PublicationOptions
from llm_jepa.options.vision import VisionOptions
from llm_jepa.settings.checks import less_is_better
from llm_jepa.settings.value_types import check_value_types
from llm_jepa.settings.vision_checks import check_vision_options, named_parts


@dataclass
class VisionConfig(PublicationOptions, VisionOptions, TrainingArguments):  # type: ignore[misc]  # fewer choices
    """What `VLJEPATrainer` takes.

    The `help` of each field says what it means; a recipe has the same keys. After a change run `make schema`.

    Raises:
        ValueError: An option is out of range or without effect.
    """

    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    remove_unused_columns: bool = field(
        default=False,
        metadata={"help": "The collator reads the columns that the recipe names, whatever they are called."},
    )

    def __post_init__(self):
        if is_plain_cpu_run() and not self.use_cpu:
            self.use_cpu = True  # transformers refuses bf16 autocast on a CPU that was not asked for
        if self.greater_is_better is None and less_is_better(self.metric_for_best_model):
            self.greater_is_better = False
        super().__post_init__()
        check_value_types(self, "vision")
        check_choices(self, vision_fields())
        check_vision_options(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()})"

    __str__ = __repr__

    @property
    def sees_images(self) -> bool:
        """Whether the predictor reads the image; the blind arm does not."""
        return self.inputs != "question"

    @property
    def part_names(self) -> dict[str, str]:
        """Key -> the name of each model of which the recipe's is made."""
        return {key: str(getattr(self, key)) for key in named_parts(vars(self))}

    @property
    def source(self) -> DataSource:
        """The data that the recipe names."""
        splits = self.dataset_train_split, self.dataset_test_split
        return DataSource(self.dataset_name, self.dataset_config, *splits)


def vision_fields() -> dict[str, Any]:
    """Name -> type of each option that `TrainingArguments` lacks or that is defined anew here."""
    return own_fields(VisionConfig, TrainingArguments)
