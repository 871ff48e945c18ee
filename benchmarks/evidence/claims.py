"""Holds what README, recipes and pages claim to the committed results.

`claims.yaml` lists each claim: the `file` that makes it, and its `text`, whose figures are placeholders of
`evidence.values`. A claim whose raw outcomes were not kept names the `log` entry that has it instead.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from evidence.values import PLACEHOLDER, Values
from llm_jepa.experiments.report import Table

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
        if "log" in claim and claim["log"] not in (root / LOG_FILE).read_text(encoding="utf-8"):
            raise ValueError(f"{LOG_FILE} has no {claim['log']!r}, the source of {said!r} in {claim['file']}.")


def claims_table(values: Values) -> Table:
    """Each claim, the file that makes it, and where its figures come from."""
    rows = [[values.fill(claim["text"]), claim["file"], _source(claim)] for claim in _claims()]
    return Table(["claim", "made in", "source"], rows)


def _claims() -> list[dict[str, str]]:
    return yaml.safe_load(CLAIMS_FILE.read_text(encoding="utf-8"))


def _source(claim: Mapping[str, str]) -> str:
    files = dict.fromkeys(match[1] for match in PLACEHOLDER.finditer(claim["text"]))
    assert files or "log" in claim, f"{claim['text']!r} has no source"
    return ", ".join(
        [*(f"results/{name}" for name in files), *([f"LOG.md: {claim['log']}"] if "log" in claim else [])]
    )


def _words(text: str) -> str:
    """A text without emphasis and line breaks."""
    return re.sub(r"\s+", " ", text.replace("**", ""))
