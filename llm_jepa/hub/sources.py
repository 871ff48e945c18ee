"""The public names of a run's base and data. Private ones are not named in a public repository."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from llm_jepa.files.hub_errors import hub_errors_explained
from llm_jepa.hub.publication import hub_id
from llm_jepa.models.known_models import fetched_model, find_known_model
from llm_jepa.models.local_files import ArtifactKind
from llm_jepa.runs.record import PATH_OR_HUB_ID_KEYS, RunRecord
from llm_jepa.settings.vision_checks import PARTS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A name to show, the Hub id and the licence; each None if there is none that others may see."""

    name: str | None
    id: str | None
    is_private: bool = False
    licence: str | None = None


@dataclass(frozen=True)
class Sources:
    """A run's base and its revision, its training data, its chat template's origin, and the data it was scored on.

    Attributes:
        parts: Of a VL-JEPA model, recipe key -> the model that the part was made from.
    """

    base: Source
    base_revision: str | None
    data: Source
    template: Source
    scored: Source
    parts: Mapping[str, Source] = field(default_factory=dict)

    def public_values(self) -> dict[str, str | None]:
        """Recipe key -> its public value; None if it has none."""
        names = {"model_name_or_path": self.base, "dataset_name": self.data, "chat_template_path": self.template}
        names |= self.parts
        return {key: source.name for key, source in names.items()} | {"model_revision": self.base_revision}


def find_sources(
    api: HfApi,
    kind: ArtifactKind,
    record: RunRecord,
    private: bool,
    base_model: str | None = None,
    dataset_id: str | None = None,
) -> Sources:
    """Look up the base and the data of a recipe on the Hub.

    Raises:
        ValueError: An adapter's base is not on the Hub, or is private while the adapter is public; or the Hub does
            not have a given id.
    """
    settings = record.settings
    local = dict.fromkeys(PATH_OR_HUB_ID_KEYS) | _recorded(record.environment)
    name, data = settings.get("model_name_or_path"), settings.get("dataset_name")
    base = _find(api, name, "model", local["model_name_or_path"], private, ("--base_model", base_model))
    if kind == "adapter":
        _check_base(name, base, private)
    found = _find(api, data, "dataset", local["dataset_name"], private, ("--dataset_id", dataset_id))
    is_own_base = base.id is not None and base.id == hub_id(str(name), local["model_name_or_path"])
    template = settings.get("chat_template_path")
    return Sources(
        base=base,
        base_revision=settings.get("model_revision") if is_own_base else None,
        data=found,
        template=_find(api, template, "model", local["chat_template_path"], private),
        scored=_scored(api, record, found, private),
        parts={key: _find(api, settings.get(key), "model", local[key], private) for key in PARTS}
        if kind == "vision"
        else {},
    )


def _recorded(environment: Mapping[str, Any]) -> dict[str, bool]:
    """Naming key -> whether it named a local file or directory in training; empty if the run did not record that."""
    return {key: key in environment["local"] for key in PATH_OR_HUB_ID_KEYS} if "local" in environment else {}


def _check_base(name: str | None, base: Source, private: bool) -> None:
    if base.is_private and not private:
        raise ValueError(
            f"The adapter's base {base.id or name} is private on the Hub: nobody else could load it. Publish the "
            "adapter as private, or name a public copy of the base with `--base_model USER/NAME`."
        )
    if base.id is None:
        raise ValueError(
            f"The adapter's base is {name!r}, which is not on the Hub: nobody else could load it. Name the same model "
            "there with `--base_model USER/NAME`, or merge both (`llm-jepa merge`) and publish the result."
        )


def _scored(api: HfApi, record: RunRecord, data: Source, private: bool) -> Source:
    scored = record.scores.get("tuned", {}).get("dataset")
    if scored == record.settings.get("dataset_name"):
        return data
    found = _find(api, scored, "dataset", None, private)
    return Source(found.name and Path(found.name).name, None)


def _find(
    api: HfApi,
    name: str | None,
    repo_type: Literal["model", "dataset"],
    is_local: bool | None,
    private: bool,
    given: tuple[str, str | None] = ("", None),
) -> Source:
    """The source by the given id, else by its own id if the Hub has it."""
    option, given_id = given
    known = find_known_model(name) or fetched_model(name) if name else None
    licence = None if known is None else known.licence
    unpublished = Source(Path(name).name if name else None, None, licence=licence)
    public_id = given_id or (hub_id(name, is_local) if name else None)
    if public_id is None:
        return unpublished
    with hub_errors_explained(f"`{option} {public_id}`" if given_id else public_id):
        try:
            info = api.repo_info(public_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            info = None
    if info is None:
        if given_id is not None:
            raise ValueError(f"`{option} {given_id}`: the Hub has no such {repo_type}, or your token may not see it.")
        return unpublished
    if info.private and not private and given_id is None:
        logger.warning("The %s %s is private, so the card does not name it.", repo_type, public_id)
        return Source(None, None, is_private=True)
    return Source(
        public_id, public_id, bool(info.private), getattr(getattr(info, "card_data", None), "license", None) or licence
    )
