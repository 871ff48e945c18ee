"""What it means when a call to the Hub fails, in place of the client's exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, is_offline_mode
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

Purpose = Literal["publish", "create", "read"]

AGAIN = "Run the same command again."
NOTHING = "Nothing was published."
WHOLE_OR_NOT = "What is published is one commit, there whole or not at all; if it has arrived, this changes nothing."
NO_HUB = "What answers there does not answer as a Hub does: look at HF_ENDPOINT and at the proxy."
REASONS = {
    401: "The Hub does not accept your token; it may have expired. Log in anew (hf auth login), or set HF_TOKEN.",
    403: "Your token may not write there. Take one with write permission, or name a repository of your own.",
    404: "There is no such repository, or your token may not see it.",
    409: f"Somebody else changes it at this moment. {AGAIN}",
    412: f"Somebody else has changed it meanwhile. {AGAIN}",
    429: f"The Hub asks for fewer requests. Wait some minutes. {AGAIN}",
}
REASONS_OF: dict[Purpose, dict[int, str]] = {
    "publish": REASONS,
    "create": REASONS
    | {409: "There is a repository of this name that your token may not see, or one is being made. Name another."},
    "read": REASONS
    | {
        401: "There is no such repository, or it is private. Log in (hf auth login), anew if your token has expired.",
        403: "Your token may not read it. If its page says that it is gated, ask for access there.",
    },
}


@contextmanager
def explained(repo_id: str, purpose: Purpose = "publish") -> Iterator[None]:
    """Say what happened and what to do, whatever way of the client's a failing call has.

    What is to be read might have been meant as a directory; it is then said that there is none.

    Raises:
        ValueError: In place of the client's exception, which is its cause.
    """
    kept = _kept(purpose)
    try:
        yield
    except LocalTokenNotFoundError as error:
        if is_offline_mode():
            raise _failed_call(repo_id, OfflineModeIsEnabled(), purpose) from error
        raise ValueError(f"{repo_id}: You are not logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except LocalEntryNotFoundError as error:  # of a download: no copy here, and why the Hub gives none is the cause
        raise _failed_call(repo_id, error.__cause__ or error, purpose) from error
    except JSONDecodeError as error:
        raise ValueError(f"{repo_id}: {constants.ENDPOINT}: {NO_HUB} {kept}") from error
    except RuntimeError as error:  # how the client reports an upload that failed
        raise ValueError(f"{repo_id}: {error} ({error.__cause__}). {AGAIN} {kept}") from error
    except (HTTPError, ConnectionError) as error:  # the latter by xet
        raise _failed_call(repo_id, error, purpose) from error
    except ValueError as error:  # a name, a card or an answer that the client cannot read
        raise ValueError(f"{repo_id}: {str(error).rstrip('.')}. {kept}") from error


def _kept(purpose: Purpose) -> str:
    return f"There is no directory of that name in {Path.cwd()}." if purpose == "read" else NOTHING


def _failed_call(repo_id: str, error: BaseException, purpose: Purpose) -> ValueError:
    kept = _kept(purpose)
    if_broken = kept if purpose == "read" else WHOLE_OR_NOT
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError(f"{repo_id}: HF_HUB_OFFLINE is set, and this needs the Hub. {kept}")
    if isinstance(error, HfHubHTTPError):
        status, said = error.response.status_code, error.server_message
        reason = REASONS_OF[purpose].get(status, f"The Hub answered {status}. {AGAIN}")
        said = f" The Hub says: {said.rstrip('.')}." if said else ""
        return ValueError(f"{repo_id}: {reason}{said} {kept if status < 500 else if_broken}")
    if not constants.ENDPOINT.startswith(("http://", "https://")):
        return ValueError(f"HF_ENDPOINT is {constants.ENDPOINT!r}; it must begin with https:// or http://. {kept}")
    where = f"{constants.ENDPOINT}: {error}"
    return ValueError(f"{repo_id}: The connection to the Hub broke ({where}). {AGAIN} {if_broken}")
