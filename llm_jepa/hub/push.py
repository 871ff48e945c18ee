"""`llm-jepa push` and `push_to_hub`: publish a directory on the Hub in one commit."""

import dataclasses
import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from llm_jepa.files.hub_errors import NOT_A_HUB, NOTHING_PUBLISHED, REASONS_BY_STATUS, hub_errors_explained
from llm_jepa.hub.card_facts import CardFacts
from llm_jepa.hub.card_metadata import results_yaml
from llm_jepa.hub.model_card import write_card
from llm_jepa.hub.publication import (
    CARD_FILE,
    RESULTS_FILE,
    Content,
    gather_files,
    refuse_leaks,
)
from llm_jepa.hub.push_list import LIST_FILE, Changes, find_changes, list_text, read_list
from llm_jepa.hub.sources import find_sources
from llm_jepa.models.adapters import base_settings_of
from llm_jepa.models.decoder_files import (
    FACTS_FILE,
    FOLDER,
    QUESTION_FOLDER,
    check_decoder_fits,
    has_text_decoder,
)
from llm_jepa.models.latent_predictor import PREDICTOR_FILES, read_facts
from llm_jepa.models.local_files import MODEL_CONFIG, ArtifactKind, artifact_kind
from llm_jepa.models.vllm_lora import max_lora_rank
from llm_jepa.runs.record import RunRecord, read_json, read_run
from llm_jepa.settings.schema import recipe_kind

logger = logging.getLogger(__name__)

COMMIT_MESSAGE = "Publish with llm-jepa push"
OTHER_WEIGHTS: dict[ArtifactKind, tuple[str, ...]] = {
    "adapter": ("model*.safetensors", "pytorch_model*.bin", "*.gguf"),
    "model": ("adapter_*", f"{QUESTION_FOLDER}/*"),
    "vision": ("adapter_*", "generation_config.json", "pytorch_model*.bin"),
}
"""Files that a repository of this kind must not hold."""


@dataclass(frozen=True)
class PushResult:
    """The repository's URL, and its files that the push wrote or found unchanged."""

    url: str
    files: tuple[str, ...]


def push(
    directory: Path,
    repo_id: str,
    private: bool = True,
    token: str | None = None,
    base_model: str | None = None,
    dataset_id: str | None = None,
    settings: Mapping[str, Any] | None = None,
    commit_message: str = COMMIT_MESSAGE,
    without_predictor: bool = False,
) -> PushResult:
    """Publish the adapter or model of a directory with tokenizer, recipe, card and results, in one commit.

    Other files of the repository and other text of its card are kept. Files that an earlier push wrote, and that the
    directory no longer has, are deleted; the push leaves a list of its files. Checkpoints, predictions and optimizer
    states are not published.

    Args:
        directory: The output directory of a run, an adapter's directory, or a merged model's.
        repo_id: `USER/NAME`; created if it does not exist.
        private: Whether only the owner may see it.
        token: A Hub token; None for that of the logged-in user.
        base_model, dataset_id: Hub ids that replace directories and files of this machine.
        settings: Training settings for the card, if the directory has no recipe.
        without_predictor: Whether to leave out the latent predictor.

    Raises:
        ValueError: There is nothing to publish, nobody else could load it, a text names this machine, the repository
            holds something else or has another visibility, or the Hub refuses or fails. Nothing is published then.
    """
    kind, record = artifact_kind(directory), read_run(directory)
    has_recipe = bool(record.settings)
    if not has_recipe:
        known = read_json(directory / MODEL_CONFIG)["part_names"] if kind == "vision" else base_settings_of(directory)
        record = dataclasses.replace(record, settings={**(settings or {}), **known})
    api = HfApi(token=token)
    repo_id = check_write_access(api, repo_id)
    sources = find_sources(api, kind, record, private, base_model, dataset_id)
    public_values = sources.public_values() | {"output_dir": f"outputs/{repo_id.split('/')[-1]}"}
    publication = gather_files(directory, record.settings if has_recipe else {}, public_values, without_predictor)
    vllm_rank = _vllm_rank(directory) if kind == "adapter" else None
    version = importlib.metadata.version("llm-jepa")
    predictor = read_facts(directory) if PREDICTOR_FILES[0] in publication.files else None
    decoder = _text_decoder(directory) if kind == "vision" else None
    facts = CardFacts(repo_id, kind, record, has_recipe, sources, vllm_rank, version, predictor, decoder)
    refuse_leaks(publication.files | {CARD_FILE: write_card(facts, None).encode()}, directory, token or get_token())
    repository = find_repository(api, repo_id, kind, private) or _make_repository(api, repo_id, private)
    results = results_yaml(facts)
    files = publication.files | {CARD_FILE: write_card(facts, _read_text(api, repository, CARD_FILE)).encode()}
    files |= {} if results is None else {RESULTS_FILE: results.encode()}
    _commit(api, repository, kind, files, commit_message)
    _warn_of_rows_trained_on(facts)
    return PushResult(f"{api.endpoint}/{repo_id}", tuple(sorted([*files, LIST_FILE])))


def check_push(settings: Mapping[str, Any], repo_id: str, private: bool, token: str | None) -> None:
    """Check before training whether the run could be published. Nothing is created on the Hub.

    Raises:
        ValueError: `push` would refuse, as far as can be known before training.
    """
    kind: ArtifactKind = "adapter" if settings.get("use_peft") else "model"
    if recipe_kind(settings) == "vision":
        kind = "vision"
    api = HfApi(token=token)
    repo_id = check_write_access(api, repo_id)
    find_sources(api, kind, RunRecord(dict(settings), None, {}, {}), private)
    find_repository(api, repo_id, kind, private)


def check_write_access(api: HfApi, repo_id: str) -> str:
    """Check that the token may write to a repository, and return the repository's full id, `USER/NAME`.

    The Hub does not tell what a fine-grained token may do; such a token passes.

    Raises:
        ValueError: The token has expired or may not write there.
    """
    with hub_errors_explained(repo_id):
        validate_repo_id(repo_id)
        user = api.whoami()
    if "name" not in user:
        raise ValueError(f"{repo_id}: {api.endpoint}: {NOT_A_HUB} {NOTHING_PUBLISHED}")
    repo_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
    role = ((user.get("auth") or {}).get("accessToken") or {}).get("role")
    writable = {user["name"], *(org["name"] for org in user.get("orgs") or [] if org.get("roleInOrg") != "read")}
    if role == "read" or (role != "fineGrained" and repo_id.split("/")[0] not in writable):
        raise ValueError(f"{repo_id}: {REASONS_BY_STATUS[403]} {NOTHING_PUBLISHED}")
    return repo_id


def find_repository(api: HfApi, repo_id: str, kind: ArtifactKind, private: bool) -> ModelInfo | None:
    """The repository to publish to; None if it does not exist.

    Raises:
        ValueError: It has another visibility, or weights of another kind.
    """
    with hub_errors_explained(repo_id):
        try:
            found = api.model_info(repo_id, files_metadata=True)
        except RepositoryNotFoundError:
            return None
    if bool(found.private) != private:
        there, asked = ("private", "public") if found.private else ("public", "private")
        advice = (
            "Make it public in its settings on the Hub" if found.private else "Give --public (hub_private_repo: false)"
        )
        raise ValueError(
            f"{repo_id} exists and is {there}, and {asked} was asked for. Nothing was published. {advice}, or name "
            "another repository."
        )
    names = [sibling.rfilename for sibling in found.siblings or []]
    other = [name for name in names if any(fnmatch(name, pattern) for pattern in OTHER_WEIGHTS[kind])]
    if other:
        raise ValueError(
            f"{repo_id} exists and holds other weights ({', '.join(sorted(other)[:3])}), which must not be mixed with "
            f"this {kind}. Nothing was published. Name another repository."
        )
    return found


def _make_repository(api: HfApi, repo_id: str, private: bool) -> ModelInfo:
    with hub_errors_explained(repo_id, "create"):
        api.create_repo(repo_id, private=private)
    with hub_errors_explained(repo_id):
        return api.model_info(repo_id)


def _commit(api: HfApi, repository: ModelInfo, kind: ArtifactKind, files: Mapping[str, Content], message: str) -> None:
    """Write the files and their list, and delete what an earlier push wrote and this one does not."""
    additions = [CommitOperationAdd(name, content) for name, content in files.items()]
    # The card has its owner's text too, so it is edited and never deleted.
    ours = {one.path_in_repo: one.upload_info.sha256.hex() for one in additions if one.path_in_repo != CARD_FILE}
    changes = _changes(api, repository, kind, ours)
    additions.append(CommitOperationAdd(LIST_FILE, list_text(ours).encode()))
    deletions = [CommitOperationDelete(name) for name in changes.deleted]
    with hub_errors_explained(repository.id):
        api.create_commit(
            repository.id, [*additions, *deletions], commit_message=message, parent_commit=repository.sha
        )
    if changes.in_words():
        logger.warning("%s: %s", repository.id, changes.in_words())


def _changes(api: HfApi, repository: ModelInfo, kind: ArtifactKind, ours: Mapping[str, str]) -> Changes:
    text = _read_text(api, repository, LIST_FILE)
    try:
        listed = None if text is None else read_list(text)
    except ValueError as error:
        raise ValueError(f"{repository.id}: {error} {NOTHING_PUBLISHED}") from error
    there: dict[str, str | None] = {}
    for sibling in repository.siblings or []:
        name = sibling.rfilename
        if name not in ours and name not in (listed or {}):
            there[name] = None
        elif sibling.lfs is not None:
            there[name] = sibling.lfs.sha256
        else:
            there[name] = hashlib.sha256(_download(api, repository, name)).hexdigest()
    return find_changes(ours, there, listed, kind)


def _read_text(api: HfApi, repository: ModelInfo, name: str) -> str | None:
    """A text file of the repository; None if it is not there.

    Raises:
        ValueError: It is not UTF-8.
    """
    if name not in {sibling.rfilename for sibling in repository.siblings or []}:
        return None
    try:
        return _download(api, repository, name).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{repository.id}: its {name} is not UTF-8 at byte {error.start}. {NOTHING_PUBLISHED} "
            "Correct the file on the Hub."
        ) from error


def _download(api: HfApi, repository: ModelInfo, name: str) -> bytes:
    with hub_errors_explained(repository.id):
        return Path(api.hf_hub_download(repository.id, name, revision=repository.sha)).read_bytes()


def _warn_of_rows_trained_on(facts: CardFacts) -> None:
    if facts.num_rows_trained_on:
        logger.warning(
            "%s: the run trained on %d of the rows that its scores are of, and the card says so. Evaluate it on other "
            "rows (llm-jepa eval), and push again.",
            facts.repo_id,
            facts.num_rows_trained_on,
        )


def _text_decoder(directory: Path) -> dict[str, Any] | None:
    """What the text decoder of a VL-JEPA run says of itself; None without one.

    Raises:
        ValueError: It was trained on other weights.
    """
    if not has_text_decoder(directory):
        return None
    content = read_json(directory / FOLDER / FACTS_FILE)
    check_decoder_fits(content["checkpoint"], directory)
    return content


def _vllm_rank(directory: Path) -> int | str:
    try:
        return max_lora_rank(directory)
    except ValueError as error:
        logger.warning("%s To serve it, merge it into its base (llm-jepa merge).", error)
        return str(error).removeprefix(f"`{directory}` is ")
