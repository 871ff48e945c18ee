"""Finds secrets in settings and texts: by the name of a key, and by the form of a value.

A secret gives access to an account: a token, a password, a private key. It is never stored, logged or published.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

REDACTED = "<secret>"

SECRET_NAME = re.compile(
    r"(.*_)?(passwords?|passwd|pwd|passphrase|secrets?|credentials?|authorization|auth|cookie|connection_string"
    r"|(api|access|secret|private|account|encryption)_?key(_id)?)"
)
"""Names of a value that is a secret, whatever its form, and so is all that lies inside it."""
TOKEN_NAME = re.compile(r"(?!(bos|eos|pad|unk|sep|cls|mask)_)(.*_)?(auth|access)?token")
"""Names of a text that is a secret, unless it is written like a token of a vocabulary."""
CREDENTIAL = re.compile(r"[^\s<>\[\]|]+")
"""The form of a token that gives access; `<|im_end|>` and `[MASK]` have another."""
SECRET_VALUE = re.compile(
    r"""(?<![A-Za-z0-9])(?:
          hf_[A-Za-z0-9]{20,}                                  # Hugging Face
        | sk-(?=[\w-]*\d)[\w-]{20,}                            # OpenAI, Anthropic
        | gh[opsur]_[A-Za-z0-9]{20,} | github_pat_\w{20,}      # GitHub
        | glpat-[\w-]{20,}                                     # GitLab
        | xox[a-z]-[\w-]{10,}                                  # Slack
        | (?:AKIA|ASIA)[A-Z0-9]{16}                            # AWS
        | AIza[\w-]{35}                                        # Google
        | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*                   # JWT
    )
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    | (?:(?<=://)|(?<=:/))[^\s/:@]*:[^\s/]+(?=@)               # scheme://user:password@host; a path has one slash
    | (?:(?<=https://)|(?<=http://)|(?<=https:/)|(?<=http:/))[^\s/]+(?=@)  # https://token@host
    | (?<=[?&])(?i:(?:[\w-]*[_-])?(?:token|signature|secret|password|sig|auth|(?:api|access)?key))=[^\s&\#"']+
    """,
    re.VERBOSE,
)
NAMED_VALUE = re.compile(r"""(["'])(?P<name>[\w-]+)\1\s*:\s*(["'])(?P<value>[^"']+)""")
"""A key and its text, as JSON and Python write them."""


def find_secrets(value: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """The places of the secrets in settings, once each and dotted: `model_init_kwargs.token`."""
    items = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in items:
        inside = place if key is None else (*place, str(key))
        if isinstance(item, Mapping | list | tuple):
            yield from dict.fromkeys(find_secrets(item, inside))
        elif _is_named_secret(item, inside) or (isinstance(item, str) and SECRET_VALUE.search(item)):
            yield ".".join(inside)


def redacted(value: Any, place: tuple[str, ...] = ()) -> Any:
    """A copy of a JSON value in which `<secret>` stands for each secret; `place` are the keys that lead to it."""
    if isinstance(value, Mapping):
        return {key: redacted(item, (*place, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [redacted(item, place) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if _is_named_secret(value, place):
        return REDACTED
    return SECRET_VALUE.sub(REDACTED, value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """A line of a log or an error in which `<secret>` stands for each secret; JSON and Python name some in it."""

    def replaced(match: re.Match[str]) -> str:
        is_secret = _is_named_secret(match["value"], (match["name"],))
        return match[0].removesuffix(match["value"]) + REDACTED if is_secret else match[0]

    return NAMED_VALUE.sub(replaced, SECRET_VALUE.sub(REDACTED, text))


def refuse_secrets(settings: Mapping[str, Any], where: str) -> None:
    """Refuse settings that hold a secret; `where` is where they are written.

    Raises:
        ValueError: One does. The message names its place alone.
    """
    for place in find_secrets(settings):
        raise ValueError(
            f"{where}: `{place}` holds a secret, and what a recipe says is recorded, logged and published. Leave it "
            "out. For the Hub, log in (`hf auth login`), set HF_TOKEN, or give `--hub_token` on the command line."
        )


def _is_named_secret(value: Any, place: tuple[str, ...]) -> bool:
    if value is None or value == "" or isinstance(value, bool) or value == REDACTED:
        return False
    names = [_words(key) for key in place]
    if any(SECRET_NAME.fullmatch(name) for name in names):
        return isinstance(value, str | int | float)
    is_token = bool(names) and TOKEN_NAME.fullmatch(names[-1]) is not None
    return is_token and isinstance(value, str) and CREDENTIAL.fullmatch(value) is not None


def _words(key: str) -> str:
    """`X-Api-Key` and `xApiKey` -> `x_api_key`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower())
