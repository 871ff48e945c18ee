"""Turns the Hub client's exceptions into messages that say what happened and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

Purpose = Literal["publish", "create", "read"]

RETRY_HINT = "Run the same command again."
NOTHING_PUBLISHED = "Nothing was published."
ATOMIC_COMMIT = "A push is one commit: the Hub has all of it or nothing. Pushing again is safe."
NOT_A_HUB = "The answer does not come from a Hub. Check HF_ENDPOINT and the proxy."
ALLOWED_NAMES = (
    "A repository is named NAME or OWNER/NAME, both of letters, digits, `-`, `_` and `.`; NAME has 96 at most. "
    "Neither begins or ends with `-` or `.`, has `--` or `..`, or ends with `.git`. Give another name."
)
REASONS_BY_STATUS = {
    401: "The Hub does not accept your token; it may have expired. Log in again (hf auth login), or set HF_TOKEN.",
    403: "Your token may not write there. Use a token with write permission, or name a repository of your own.",
    404: "There is no such repository, or your token may not see it.",
    409: f"Somebody else is changing the repository now. {RETRY_HINT}",
    412: f"Somebody else has changed the repository in the meantime. {RETRY_HINT}",
    429: f"The Hub asks for fewer requests. Wait some minutes. {RETRY_HINT}",
}
REASONS_BY_PURPOSE: dict[Purpose, dict[int, str]] = {
    "publish": REASONS_BY_STATUS,
    "create": REASONS_BY_STATUS
    | {409: "A repository of this name exists, but your token may not see it, or is being created. Name another."},
    "read": REASONS_BY_STATUS
    | {
        401: "There is no such repository, or it is private. Log in (hf auth login), again if your token has expired.",
        403: "Your token may not read it. If its page says that it is gated, ask for access there.",
    },
}


@contextmanager
def hub_errors_explained(repo_id: str, purpose: Purpose = "publish") -> Iterator[None]:
    """Raise a `ValueError` that explains a failed call to the Hub; the client's exception is its cause.

    Args:
        repo_id: The message begins with it.
        purpose: `read` adds that no local directory of that name exists, since the user may have meant one.

    Raises:
        ValueError: The call failed.
    """
    outcome = _outcome(purpose)
    try:
        yield
    except LocalTokenNotFoundError as error:
        if is_offline_mode():
            raise _failed_call(repo_id, OfflineModeIsEnabled(), purpose) from error
        raise ValueError(f"{repo_id}: You are not logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except LocalEntryNotFoundError as error:  # a download that is not cached; its cause says why the Hub failed
        raise _failed_call(repo_id, error.__cause__ or error, purpose) from error
    except JSONDecodeError as error:
        raise ValueError(f"{repo_id}: {constants.ENDPOINT}: {NOT_A_HUB} {outcome}") from error
    except RuntimeError as error:  # the client reports a failed upload this way
        raise ValueError(f"{repo_id}: {error} ({error.__cause__}). {RETRY_HINT} {outcome}") from error
    except (HTTPError, ConnectionError) as error:  # xet raises ConnectionError
        raise _failed_call(repo_id, error, purpose) from error
    except HFValidationError as error:
        raise ValueError(f"{repo_id}: {ALLOWED_NAMES} {outcome}") from error
    except ValueError as error:  # the client cannot parse a name, a card or an answer
        raise ValueError(f"{repo_id}: {str(error).rstrip('.')}. {outcome}") from error


def _outcome(purpose: Purpose) -> str:
    return f"{Path.cwd()} has no directory of that name." if purpose == "read" else NOTHING_PUBLISHED


def _failed_call(repo_id: str, error: BaseException, purpose: Purpose) -> ValueError:
    outcome = _outcome(purpose)
    possible_outcome = outcome if purpose == "read" else ATOMIC_COMMIT
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError(f"{repo_id}: HF_HUB_OFFLINE is set, and this command needs the Hub. Unset it. {outcome}")
    if isinstance(error, HfHubHTTPError):
        status, answer = error.response.status_code, error.server_message
        reason = REASONS_BY_PURPOSE[purpose].get(status, f"The Hub answered {status}. {RETRY_HINT}")
        answer = f" The Hub says: {answer.rstrip('.')}." if answer else ""
        return ValueError(f"{repo_id}: {reason}{answer} {outcome if status < 500 else possible_outcome}")
    if not constants.ENDPOINT.startswith(("http://", "https://")):
        return ValueError(f"HF_ENDPOINT is {constants.ENDPOINT!r}; it must begin with https:// or http://. {outcome}")
    where = f"{constants.ENDPOINT}: {error}"
    return ValueError(f"{repo_id}: The connection to the Hub broke ({where}). {RETRY_HINT} {possible_outcome}")
