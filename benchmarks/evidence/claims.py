"""Holds what README, recipes and pages claim to the committed results.

`claims.yaml` lists each claim: the `file` that makes it, and its `text`, whose figures are placeholders of
`evidence.values`. A claim whose raw outcomes were not kept names the entry of the `log` that has it instead, and a
text in that entry, `log_says`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from evidence.values import PLACEHOLDER, Values
from llm_jepa.experiments.tables import Table

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")
LOG_FILE = Path("benchmarks/LOG.md")


def check_claims(values: Values, root: Path) -> None:
    """Check that each claim stands in its file with the figures of its source.

    Raises:
        ValueError: A file does not say what the results say.
    """
    for claim in _claims():
        said = values.fill(claim["text"])
        if _words(said) not in _words((root / claim["file"]).read_text(encoding="utf-8")):
            raise ValueError(
                f"{claim['file']} does not say {said!r}, as the results do. Change it or {CLAIMS_FILE.name}."
            )
        if "log" in claim and "log_says" not in claim:
            raise ValueError(f"{CLAIMS_FILE.name} gives {said!r} a `log` but not what its entry says: add `log_says`.")
        if "log" in claim and _words(claim["log_says"]) not in _words(_entry(root, claim["log"])):
            raise ValueError(
                f"{LOG_FILE} has no {claim['log_says']!r} under {claim['log']!r}, the source of {said!r} in "
                f"{claim['file']}."
            )


def claims_table(values: Values) -> Table:
    """Each claim, the file that makes it, and where its figures come from. A row of a table stands with commas."""
    rows = [
        [values.fill(claim["text"]).strip("| ").replace(" | ", ", "), claim["file"], _source(claim)]
        for claim in _claims()
    ]
    return Table(["claim", "made in", "source"], rows)


def _claims() -> list[dict[str, str]]:
    return yaml.safe_load(CLAIMS_FILE.read_text(encoding="utf-8"))


def _entry(root: Path, heading: str) -> str:
    """The entry of the log whose heading begins so; nothing if there is none."""
    entries = (root / LOG_FILE).read_text(encoding="utf-8").split("\n## ")
    return next((entry for entry in entries if entry.startswith(heading)), "")


def _source(claim: Mapping[str, str]) -> str:
    files = dict.fromkeys(match[1] for match in PLACEHOLDER.finditer(claim["text"]))
    assert files or "log" in claim, f"{claim['text']!r} has no source"
    return ", ".join(
        [*(f"results/{name}" for name in files), *([f"LOG.md: {claim['log']}"] if "log" in claim else [])]
    )


def _words(text: str) -> str:
    """A text without emphasis and line breaks."""
    return re.sub(r"\s+", " ", text.replace("**", ""))
