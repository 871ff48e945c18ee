"""What an experiment has declared at any time: a report says what was added or withdrawn after its first cells.

The file `declared.json` of the output directory has an entry for each arm, seed, contrast, primary score and
threshold: `what` it is, its `name`, and the cells that were finished when it was added, `after_cells`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock

from llm_jepa.experiments.cell_spec import RESULT_FILE
from llm_jepa.experiments.series_names import arm_of
from llm_jepa.experiments.significance import Contrast
from llm_jepa.experiments.significance.verdicts import Measure
from llm_jepa.files.atomic import write_json
from llm_jepa.runs.record import read_json

DECLARED_FILE, LOCK_FILE = "declared.json", "declared.lock"
Entry = Mapping[str, Any]


def count_finished(output_dir: Path) -> int:
    """The number of finished cells."""
    return sum(1 for _ in output_dir.glob(f"cells/*/*/{RESULT_FILE}"))


def keep_declared(output_dir: Path, items: Sequence[tuple[str, Any]], cells_before: int) -> dict[str, Any]:
    """Add what is declared now to the file, and return its content. Until a cell is finished it is written anew.

    Args:
        output_dir: The experiment's. Files of parts of an experiment may run in it side by side.
        items: What is declared, by its kind and name.
        cells_before: The cells that were finished when this comparison started.
    """
    path = output_dir / DECLARED_FILE
    output_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(output_dir / LOCK_FILE):
        kept = read_json(path) if count_finished(output_dir) else {}
        kept = kept or {"unknown_before_cells": cells_before, "entries": []}
        known = {_identity(one) for one in kept["entries"]}
        after = cells_before if known else 0
        new = [{"what": what, "name": name, "after_cells": after} for what, name in items]
        kept["entries"] += [one for one in new if _identity(one) not in known]
        write_json(kept, path)
    return kept


def items_of(
    experiment: Mapping[str, Any], arms: Sequence[str], contrasts: Sequence[Contrast]
) -> list[tuple[str, Any]]:
    """What a report's description of an experiment, its arms and its contrasts declare, by kind and name."""
    return [
        *(("arm", arm) for arm in arms),
        *(("seed", seed) for seed in experiment["seeds"]),
        ("primary score", experiment["primary_score"]),
        ("threshold", experiment["threshold"]),
        *(("contrast", [one.budget, one.arm, one.baseline]) for one in contrasts),
    ]


def declared_comparisons(entries: Sequence[Entry], contrasts: Sequence[Contrast]) -> list[tuple[Contrast, Measure]]:
    """Every comparison that was declared at any time: the contrasts, and those withdrawn, by each declared measure."""
    now = {_identity({"what": "contrast", "name": [one.budget, one.arm, one.baseline]}) for one in contrasts}
    withdrawn = [one["name"] for one in entries if one["what"] == "contrast" and _identity(one) not in now]
    every = [*contrasts, *(Contrast(arm, baseline, budget) for budget, arm, baseline in withdrawn)]
    has_threshold = any(one["what"] == "threshold" and one["name"] is not None for one in entries)
    measures = get_args(Measure) if has_threshold else get_args(Measure)[:1]
    return [(contrast, measure) for contrast in every for measure in measures]


def changes(declared: Mapping[str, Any], items: Sequence[tuple[str, Any]]) -> list[str]:
    """What was added or withdrawn after the first cells, in sentences.

    Args:
        declared: The content of the file.
        items: What is declared now.
    """
    now = {_identity({"what": what, "name": name}) for what, name in items}
    sentences = []
    if declared["unknown_before_cells"]:
        number = declared["unknown_before_cells"]
        sentences.append(f"What was declared before {number} finished cell{'s' * (number != 1)} is not known.")
    added: dict[int, list[Entry]] = {}
    for one in declared["entries"]:
        if one["after_cells"] and _identity(one) in now:
            added.setdefault(one["after_cells"], []).append(one)
    sentences += [
        f"CHANGED after {number} finished cell{'s' * (number != 1)}: {_listed(entries)} added."
        for number, entries in added.items()
    ]
    withdrawn = [one for one in declared["entries"] if _identity(one) not in now]
    if withdrawn:
        stay = any(one["what"] in ("contrast", "threshold") for one in withdrawn)
        kept = " Withdrawn comparisons stay in the family with p = 1." if stay else ""
        sentences.append(f"CHANGED after finished cells: {_listed(withdrawn)} withdrawn.{kept}")
    return sentences


def _identity(entry: Entry) -> tuple[Any, ...]:
    """A contrast is the same whatever the schedule of its baseline, which depends on the other arms."""
    if entry["what"] != "contrast":
        return entry["what"], entry["name"]
    budget, arm, baseline = entry["name"]
    return "contrast", budget, arm, arm_of(baseline, ())


def _listed(entries: Sequence[Entry]) -> str:
    """Example: `arm tube, seed 4`; contrasts of arms that are named are left out."""
    arms = {one["name"] for one in entries if one["what"] == "arm"}
    named = []
    for one in entries:
        if one["what"] != "contrast":
            named.append(f"{one['what']} {'none' if one['name'] is None else one['name']}")
            continue
        _, budget, arm, baseline = _identity(one)
        if not {arm, baseline} & arms:
            named.append(f"{arm} against {baseline} at {budget.replace('_', ' ')}")
    return ", ".join(named)
