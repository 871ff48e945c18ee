"""The file that `llm-jepa latency` writes and `llm-jepa plan --latency` reads. Imports no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from llm_jepa.files.atomic import write_json
from llm_jepa.settings.objectives import as_written, objective_names

FORMAT = 1
REPORT_FILE = "latency.json"
"""In the directory of the run."""
PLAIN, FIRST_TOKEN = "plain", "first_token"
ORDINARY_WAYS = (PLAIN, "prompt_lookup", "likelihood")
"""Ways to answer that need no latent predictor."""
FIGURES = ("answers", "right", "mean_seconds", "seconds_per_answer", "times_faster")
"""What is known of every way."""


@dataclass(frozen=True)
class Hardware:
    """What a run was measured on.

    Attributes:
        device: The GPU or the processor, by its maker's name.
        threads: Of the processor; None on a GPU.
    """

    device: str
    threads: int | None

    def __str__(self) -> str:
        if self.threads is None:
            return self.device
        return f"{self.device}, {self.threads} thread{'' if self.threads == 1 else 's'}"


@dataclass(frozen=True)
class LatencyReport:
    """How long a run takes for one request, in every way that it can answer.

    Attributes:
        model, objectives: `model_name_or_path` and `jepa_objective` of the run's recipe.
        dataset, split: Where the requests are from.
        dtype: Precision of the weights.
        requests: How many were answered in each way.
        candidates: How many an answer is chosen from; None where each row has its own, or nothing is chosen.
        peak_memory_bytes: The most memory that tensors took on a GPU, or that was resident of the process elsewhere.
        versions, commit: Of the libraries, and of the toolkit if it is a git checkout.
        ways: Name -> its figures, `FIGURES` and more; `first_token` answers nothing.
    """

    model: str
    objectives: tuple[str, ...]
    dataset: str
    split: str
    hardware: Hardware
    dtype: str
    requests: int
    max_new_tokens: int
    candidates: int | None
    peak_memory_bytes: int
    versions: Mapping[str, str]
    commit: str | None
    ways: Mapping[str, Mapping[str, Any]]


def write_latency(report: LatencyReport, path: Path) -> None:
    """Write a report as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json({"format": FORMAT, **asdict(report)}, path)


def read_latency(path: Path) -> LatencyReport:
    """Read a report.

    Raises:
        ValueError: The file is missing, broken, or no report of this format.
    """
    make = "Make one with `llm-jepa latency RUN --output FILE`."
    if not path.is_file():
        raise ValueError(f"There is no file `{path}` (looked in {Path.cwd()}). {make}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        report = LatencyReport(**{field.name: content[field.name] for field in fields(LatencyReport)})
        hardware, objectives = Hardware(**content["hardware"]), tuple(content["objectives"])
        report = LatencyReport(**{**vars(report), "hardware": hardware, "objectives": objectives})
        _check_ways(report.ways)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`{path}` is no whole file of latencies ({error}). {make}") from error
    return report


def _check_ways(ways: Mapping[str, Mapping[str, Any]]) -> None:
    if PLAIN not in ways:
        raise ValueError(f"it has no way {PLAIN!r}")
    for name, figures in ways.items():
        missing = [key for key in FIGURES if key not in figures]
        if missing:
            raise ValueError(f"{name!r} lacks {', '.join(missing)}")
        if not (math.isfinite(figures["mean_seconds"]) and figures["mean_seconds"] > 0):
            raise ValueError(f"`mean_seconds` of {name!r} is {figures['mean_seconds']}, not above 0")


def check_same_recipe(report: LatencyReport, settings: Mapping[str, Any], path: Path) -> None:
    """Check that a report is of a run of these settings: that its seconds are what their training buys.

    Raises:
        ValueError: It is of another model or another objective.
    """
    objective = settings.get("jepa_objective", "pair")
    pairs = {
        "model_name_or_path": (report.model, settings["model_name_or_path"]),
        "jepa_objective": (as_written(_one_or_all(report.objectives)), as_written(objective)),
    }
    if objective_names(objective) == report.objectives:
        del pairs["jepa_objective"]
    for name, (measured, planned) in pairs.items():
        if measured != planned:
            raise ValueError(
                f"`{path}` was measured of a run with `{name}: {measured}`; the recipe has `{planned}`. Measure a run "
                "of this recipe."
            )


def _one_or_all(names: tuple[str, ...]) -> str | tuple[str, ...]:
    return names[0] if len(names) == 1 else names
