"""Options of publishing a run on the Hub, beside transformers' own."""

import copy
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from llm_jepa.settings.secrets import redacted


@dataclass
class PublicationOptions:
    """What of a run is published, and its options without secrets. It stands before `TrainingArguments`."""

    hub_private_repo: bool | None = field(
        default=True, metadata={"help": "Publish for the owner's eyes alone; false makes it public."}
    )
    hub_strategy: Literal["end"] = field(
        default="end",
        metadata={
            "help": "The end of a run is published, and no checkpoint: checkpoints hold paths of the machine and "
            "optimizer states."
        },
    )
    trackio_static_space_id: str | None | Literal[False] = field(  # noqa: RUF036 (HfArgumentParser wants None second)
        default=False,
        metadata={
            "help": "Space in which `push_to_hub` publishes the logs of `report_to: trackio`: its name, null to let "
            "trackio make one, or false for none."
        },
    )

    def to_dict(self) -> dict[str, Any]:
        """Every option as JSON, for trackers and logs; `<secret>` stands for each secret."""
        return redacted(super().to_dict())  # type: ignore[misc]  # of `TrainingArguments`

    def without_secrets(self) -> Self:
        """A copy that can be stored: without the token, and with `<secret>` for each secret in a mapping."""
        stored = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, str | dict | list):
                setattr(stored, name, redacted(value, (name,)))
        stored.hub_token = None  # type: ignore[attr-defined]
        return stored
