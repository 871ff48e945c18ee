"""`llm-jepa push` and `push_to_hub`: a directory published on the Hub, in one commit."""

import importlib.metadata
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from peft.utils import CONFIG_NAME as ADAPTER_CONFIG

from llm_jepa.model_card import CardFacts, results_yaml, write_card
from llm_jepa.publication import CARD_FILE, RESULTS_FILE, WEIGHTS, Kind, gather, hub_id, kind_of, refuse_leaks
from llm_jepa.run_record import read_run
from llm_jepa.vllm_lora import lora_rank

logger = logging.getLogger(__name__)

COMMIT_MESSAGE = "Publish with llm-jepa push"
OTHER_WEIGHTS: dict[Kind, tuple[str, ...]] = {
    "adapter": ("model*.safetensors", "pytorch_model*.bin", "*.gguf"),
    "model": ("adapter_*",),
}
"""Files that a repository of this kind cannot have beside its own."""

AGAIN = "Run the same command again."
WHOLE_OR_NOT = "What is published is one commit, there whole or not at all; if it has arrived, this changes nothing."
REASONS = {
    401: "The Hub does not accept your token; it may have expired. Log in anew (hf auth login), or set HF_TOKEN.",
    403: "Your token may not write there. Take one with write permission, or name a repository of your own.",
    404: "There is no such repository, or your token may not see it.",
    409: f"Somebody else changes it at this moment. {AGAIN}",
    412: f"Somebody else has changed it meanwhile. {AGAIN}",
    429: f"The Hub asks for fewer requests. Wait some minutes. {AGAIN}",
}


@dataclass(frozen=True)
class Published:
    """Where it is, and what: the files of the repository that this push wrote or left as they were."""

    url: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """What others know base and data by. Without an id, a name for the card alone."""

    base_model: str | None
    base_id: str | None
    dataset: str | None
    dataset_id: str | None


def push(
    directory: Path,
    repo_id: str,
    private: bool = True,
    token: str | None = None,
    base_model: str | None = None,
    dataset_id: str | None = None,
) -> Published:
    """Publish the adapter or model of a directory, its tokenizer, its recipe, its card and its results, in one commit.

    What the repository holds beside is kept, in its card too; weights of an earlier push that are no longer there are
    removed. Checkpoints, predictions and optimizer states stay here.

    Args:
        directory: A run's output directory, an adapter's, or a merged model's.
        repo_id: `USER/NAME`, made if it is not there.
        private: Whether only its owner may see it.
        token: Of the Hub; None for the one that is logged in.
        base_model, dataset_id: Hub ids to name instead of directories and files of this machine.

    Raises:
        ValueError: There is nothing to publish, nobody else could load it, a text names this machine, the repository
            holds something else or has another visibility, or the Hub refuses or fails. No file is published then.
    """
    kind, record = kind_of(directory), read_run(directory)
    api = HfApi(token=token)
    repo_id = log_in(api, repo_id)
    sources = find_sources(api, kind, record.settings or _adapter_settings(directory), base_model, dataset_id)
    names = {"model_name_or_path": sources.base_model, "dataset_name": sources.dataset}
    replaced = {key: name for key, name in names.items() if name is not None}
    publication = gather(directory, record.settings, replaced | {"output_dir": f"outputs/{repo_id.split('/')[-1]}"})
    facts = CardFacts(
        repo_id=repo_id,
        kind=kind,
        record=record,
        base_model=sources.base_model,
        base_id=sources.base_id,
        dataset=sources.dataset,
        dataset_id=sources.dataset_id,
        vllm_rank=_vllm_rank(directory) if kind == "adapter" else None,
        version=importlib.metadata.version("llm-jepa"),
    )
    texts = publication.files | {CARD_FILE: write_card(facts, None).encode()}
    refuse_leaks(texts, directory, token or get_token())
    repository = find_repository(api, repo_id, kind, private) or _make_repository(api, repo_id, private)
    results = results_yaml(facts)
    files = publication.files | {CARD_FILE: write_card(facts, _existing_card(api, repository)).encode()}
    files |= {} if results is None else {RESULTS_FILE: results.encode()}
    there = {sibling.rfilename for sibling in repository.siblings or []}
    stale = [name for name in there - files.keys() if _is_ours(name, kind)]
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    with explained(repo_id):
        api.create_commit(
            repo_id,
            [*operations, *(CommitOperationDelete(name) for name in stale)],
            commit_message=COMMIT_MESSAGE,
            parent_commit=repository.sha,
        )
    return Published(f"{api.endpoint}/{repo_id}", tuple(sorted(files)))


def find_sources(
    api: HfApi, kind: Kind, settings: Mapping[str, Any], base_model: str | None = None, dataset_id: str | None = None
) -> Sources:
    """By what names others find the base and the data of a recipe.

    Raises:
        ValueError: An adapter's base, or an id that was given, is not on the Hub.
    """
    base, data = settings.get("model_name_or_path"), settings.get("dataset_name")
    base_id = _public_id(api, base, "model", "--base_model", base_model)
    if base_id is None and kind == "adapter":
        raise ValueError(
            f"The adapter's base is {base!r}, which is not on the Hub: nobody else could load it. Name the same model "
            "there with `--base_model USER/NAME`, or publish the model that `llm-jepa merge` makes of both."
        )
    data_id = _public_id(api, data, "dataset", "--dataset_id", dataset_id)
    return Sources(base_id or _name(base), base_id, data_id or _name(data), data_id)


def _public_id(api: HfApi, source: str | None, repo_type: str, option: str, given: str | None) -> str | None:
    """The Hub id of a source: the given one, else its own if the Hub has it."""
    public_id = given or (None if source is None else hub_id(source))
    if public_id is None:
        return None
    with explained(public_id):
        exists = api.repo_exists(public_id, repo_type=repo_type)
    if given is not None and not exists:
        raise ValueError(f"`{option} {given}`: the Hub has no such {repo_type}, or your token may not see it.")
    return public_id if exists else None


def check_push(settings: Mapping[str, Any], repo_id: str, private: bool, token: str | None) -> None:
    """Find out before a recipe is trained whether what comes of it can be published; nothing is made on the Hub.

    Raises:
        ValueError: As far as that can be told now, `push` would.
    """
    kind: Kind = "adapter" if settings.get("use_peft") else "model"
    api = HfApi(token=token)
    repo_id = log_in(api, repo_id)
    find_sources(api, kind, settings)
    find_repository(api, repo_id, kind, private)


def log_in(api: HfApi, repo_id: str) -> str:
    """The full id of a repository, its user's name before it; the one call that tells that a token has expired."""
    with explained(repo_id):
        user = api.whoami()["name"]
    return repo_id if "/" in repo_id else f"{user}/{repo_id}"


def find_repository(api: HfApi, repo_id: str, kind: Kind, private: bool) -> ModelInfo | None:
    """The repository to publish to; None if it is not there.

    Raises:
        ValueError: It has another visibility, or weights of another kind.
    """
    with explained(repo_id):
        try:
            found = api.model_info(repo_id)
        except RepositoryNotFoundError:
            return None
    if bool(found.private) != private:
        there, asked = ("private", "public") if found.private else ("public", "private")
        advice = (
            "change that in its settings on the Hub" if found.private else "say so (--public; hub_private_repo: false)"
        )
        raise ValueError(
            f"{repo_id} exists and is {there}, and {asked} was asked for. Nothing was published: {advice}, or name "
            "another repository."
        )
    names = [sibling.rfilename for sibling in found.siblings or []]
    other = [name for name in names if any(fnmatch(name, pattern) for pattern in OTHER_WEIGHTS[kind])]
    if other:
        raise ValueError(
            f"{repo_id} exists and holds other weights ({', '.join(sorted(other)[:3])}), beside which this {kind} "
            "could not be told apart. Nothing was published: name another repository."
        )
    return found


def _make_repository(api: HfApi, repo_id: str, private: bool) -> ModelInfo:
    with explained(repo_id):
        api.create_repo(repo_id, private=private)
        return api.model_info(repo_id)


@contextmanager
def explained(repo_id: str) -> Iterator[None]:
    """Say what it means when a call to the Hub fails, in place of the client's exceptions.

    Raises:
        ValueError: What happened and what to do.
    """
    kept = "Nothing was published."
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo_id}: You are not logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise ValueError(f"{repo_id}: HF_HUB_OFFLINE is set, and publishing needs the Hub. {kept}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = REASONS.get(
            status, f"The Hub answered {status}: {error.server_message or 'no reason given'}. {AGAIN}"
        )
        raise ValueError(f"{repo_id}: {reason} {kept if status < 500 else WHOLE_OR_NOT}") from error
    except (HTTPError, ConnectionError) as error:  # the latter by xet
        raise ValueError(f"{repo_id}: The connection to the Hub broke ({error}). {AGAIN} {WHOLE_OR_NOT}") from error
    except RuntimeError as error:  # how the client reports an upload that failed
        raise ValueError(f"{repo_id}: {error} ({error.__cause__}). {AGAIN} {kept}") from error
    except ValueError as error:  # a name, a card or an answer that the client cannot read
        raise ValueError(f"{repo_id}: {error}. {kept}") from error


def _existing_card(api: HfApi, repository: ModelInfo) -> str | None:
    if CARD_FILE not in {sibling.rfilename for sibling in repository.siblings or []}:
        return None
    with explained(repository.id):
        path = api.hf_hub_download(repository.id, CARD_FILE, revision=repository.sha)
    return Path(path).read_text(encoding="utf-8")


def _adapter_settings(directory: Path) -> dict[str, Any]:
    """Of an adapter without a recipe: what its own configuration calls its base."""
    path = directory / ADAPTER_CONFIG
    if not path.is_file():
        return {}
    return {"model_name_or_path": json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]}


def _is_ours(name: str, kind: Kind) -> bool:
    return name == RESULTS_FILE or any(fnmatch(name, pattern) for pattern in WEIGHTS[kind])


def _name(source: str | None) -> str | None:
    return None if source is None else Path(source).name


def _vllm_rank(directory: Path) -> int | str:
    try:
        return lora_rank(directory)
    except ValueError as error:
        logger.warning("%s Merged into its base it is served (llm-jepa merge).", error)
        return str(error).removeprefix(f"`{directory}` is ")
