"""What can be checked of a push without asking the Hub. Imports no torch."""

from pathlib import Path

from llm_jepa.models.local_files import artifact_kind, refuse_token_vlm


def repository_name(hub_model_id: str | None, output_dir: str | Path) -> str:
    """Where a run is published: `hub_model_id`, else the name of its output directory."""
    return hub_model_id or Path(output_dir).absolute().name


def check_login(repo_id: str, token: str | None = None) -> None:
    """Check that a repository can have this name, and that there is a token.

    Raises:
        ValueError: The name is not allowed, nobody is logged in, or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import get_token, is_offline_mode  # takes a while
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id

    from llm_jepa.files.hub_errors import hub_errors_explained

    with hub_errors_explained(repo_id):
        validate_repo_id(repo_id)
        if is_offline_mode():
            raise OfflineModeIsEnabled
        if not (token or get_token()):
            raise LocalTokenNotFoundError


def check_push_command(directory: Path, repo_id: str) -> None:
    """Check a command line of `llm-jepa push`.

    Raises:
        ValueError: The directory holds neither adapter nor model, or a control; or as `check_login`.
    """
    artifact_kind(directory)
    refuse_token_vlm(directory, "push")
    check_login(repo_id)
