"""The list of the files that a push wrote, kept in the repository: a later push deletes files of this list alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from llm_jepa.hub.publication import is_written_by_push
from llm_jepa.models.local_files import ArtifactKind

LIST_FILE = ".llm-jepa.json"


@dataclass(frozen=True)
class Changes:
    """What a push does to files that are there and differ from its own.

    Attributes:
        has_list: Whether an earlier push left a list.
        deleted: Files as an earlier push wrote them, which this one no longer writes.
        replaced: Files that this push writes over, and that no earlier push wrote as they are.
        kept: Files that may be outdated, but that no earlier push wrote as they are.
    """

    has_list: bool
    deleted: tuple[str, ...]
    replaced: tuple[str, ...]
    kept: tuple[str, ...]

    def in_words(self) -> str:
        """What somebody should know, in one line; empty if there is nothing."""
        parts = []
        if self.replaced:
            parts.append(f"Written over, and kept in the repository's history: {', '.join(self.replaced)}.")
        if self.kept:
            parts.append(f"Perhaps outdated, and left there: {', '.join(self.kept)}.")
        if not parts:
            return ""
        reason = (
            "Files were changed since the last push."
            if self.has_list
            else f"No earlier push left a list of its files ({LIST_FILE}), so nothing was deleted."
        )
        return " ".join([reason, *parts])


def list_text(hashes: Mapping[str, str]) -> str:
    """The list as its file has it; `hashes` is name -> SHA-256."""
    return json.dumps({"files": dict(sorted(hashes.items()))}, indent=1) + "\n"


def read_list(text: str) -> dict[str, str]:
    """Name -> SHA-256 of the files that the last push wrote.

    Raises:
        ValueError: The text is no list.
    """
    try:
        files = json.loads(text)["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its {LIST_FILE} is no list of files. Delete it on the Hub.") from error
    return dict(files)


def find_changes(
    ours: Mapping[str, str],
    there: Mapping[str, str | None],
    listed: Mapping[str, str] | None,
    kind: ArtifactKind,
) -> Changes:
    """Compare the files of a push with those in the repository.

    Args:
        ours: Name -> SHA-256 of the files to write.
        there: Name -> SHA-256 of the files in the repository; None for those in neither `ours` nor `listed`.
        listed: Name -> SHA-256 of the files that the last push wrote; None without a list.
    """
    earlier = listed or {}
    as_written = {name for name, found in there.items() if found == earlier.get(name, "")}
    gone = there.keys() - ours.keys()
    outdated = {name for name in gone if name in earlier or (listed is None and is_written_by_push(name, kind))}
    other = {name for name in there.keys() & ours.keys() if there[name] != ours[name]}
    return Changes(
        has_list=listed is not None,
        deleted=tuple(sorted(outdated & as_written)),
        replaced=tuple(sorted(other - as_written)),
        kept=tuple(sorted(outdated - as_written)),
    )
