"""What an experiment has declared at any time: a report says what was added after cells, and what it leaves out.

The file `declared.json` of the output directory has an entry for each arm, seed, contrast, primary score and
threshold: `what` it is, its `name`, and the cells that were finished when it was added, `after_cells`. `settings` has
how each arm was `trained`, again after each change.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock

from llm_jepa.experiments.cell_spec import RESULT_FILE, differences
from llm_jepa.experiments.series_names import arm_of
from llm_jepa.experiments.significance import Contrast
from llm_jepa.experiments.significance.verdicts import Measure
from llm_jepa.files.atomic import write_json
from llm_jepa.runs.record import read_json

DECLARED_FILE, LOCK_FILE = "declared.json", "declared.lock"
Entry = Mapping[str, Any]
Trained = Mapping[str, Mapping[str, Any]]
"""Arm -> what decides its trained models, without the seed."""


def count_finished(output_dir: Path) -> int:
    """The number of finished cells."""
    return sum(1 for _ in output_dir.glob(f"cells/*/*/{RESULT_FILE}"))


def declared_with(
    output_dir: Path, items: Sequence[tuple[str, Any]], trained: Trained, cells_before: int
) -> dict[str, Any]:
    """The content of the file with what is declared now. Until a cell is finished it begins anew.

    Args:
        output_dir: The experiment's. Files of parts of an experiment may run in it side by side.
        items: What is declared, by its kind and name.
        trained: How each arm is trained.
        cells_before: The cells that were finished when this comparison started.
    """
    kept = read_json(output_dir / DECLARED_FILE) if count_finished(output_dir) else {}
    kept = kept or {"unknown_before_cells": cells_before, "entries": []}
    known = {_identity(one) for one in kept["entries"]}
    after = cells_before if known else 0
    new = [{"what": what, "name": name, "after_cells": after} for what, name in items]
    settings = dict(kept.get("settings", {}))
    for arm, training in trained.items():
        before, now = settings.get(arm, []), {"after_cells": after, "trained": json.loads(json.dumps(training))}
        if not before or (before[-1]["trained"] != now["trained"] and now not in before):
            settings[arm] = [*before, now]
    entries = kept["entries"] + [one for one in new if _identity(one) not in known]
    return kept | {"entries": entries, "settings": settings}


def keep_declared(
    output_dir: Path, items: Sequence[tuple[str, Any]], trained: Trained, cells_before: int
) -> dict[str, Any]:
    """Write the file with what is declared now, and return its content, as `declared_with` does."""
    output_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(output_dir / LOCK_FILE):
        kept = declared_with(output_dir, items, trained, cells_before)
        write_json(kept, output_dir / DECLARED_FILE)
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


def declared_comparisons(entries: Sequence[Entry], items: Sequence[tuple[str, Any]]) -> list[tuple[Contrast, str]]:
    """Every comparison that was declared at any time: each contrast, now or left out, by each measure.

    A measure is named as in a verdict, and one by another primary score or threshold with it: `score strict`,
    `time 0.9`. Who tries scores until one is "better" makes the family larger with each.
    """
    now = {_identity({"what": what, "name": name}) for what, name in items}
    left_out = [{"what": one["what"], "name": one["name"]} for one in entries if _identity(one) not in now]
    every = [{"what": what, "name": name} for what, name in items] + left_out
    named = [one["name"] for one in every if one["what"] == "contrast"]
    contrasts = [Contrast(arm, baseline, budget) for budget, arm, baseline in named]
    measures = [*_measures(items), *(f"score {one['name']}" for one in left_out if one["what"] == "primary score")]
    for one in left_out:
        if one["what"] == "threshold" and one["name"] is not None:
            measures += [f"{measure} {one['name']}" for measure in get_args(Measure)[1:]]
    return [(contrast, measure) for contrast in contrasts for measure in measures]


def changes(declared: Mapping[str, Any], items: Sequence[tuple[str, Any]]) -> list[str]:
    """What was added or set otherwise after the first cells, and what of the declared is left out now, in sentences.

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
    for arm, history in declared.get("settings", {}).items():
        for before, after in pairwise(history if ("arm", arm) in now else []):
            if number := after["after_cells"]:
                changed = differences(before["trained"], after["trained"])
                sentences.append(f"CHANGED after {number} finished cell{'s' * (number != 1)}: in arm {arm} {changed}.")
    left_out = [one for one in declared["entries"] if _identity(one) not in now and one["name"] is not None]
    if left_out:
        num_contrasts = sum(what == "contrast" for what, _ in items)
        is_larger = len(declared_comparisons(declared["entries"], items)) > num_contrasts * len(_measures(items))
        kept = " Comparisons left out stay in the family with p = 1." if is_larger else ""
        sentences.append(f"DECLARED TOO, and left out here: {_listed(left_out)}.{kept}")
    return sentences


def _measures(items: Sequence[tuple[str, Any]]) -> Sequence[Measure]:
    """The score; with a threshold also the share of seeds that reach it and the time to it."""
    return get_args(Measure)[: 1 if ("threshold", None) in items else None]


def _identity(entry: Entry) -> tuple[Any, ...]:
    """A contrast is the same whatever the schedule of its baseline, which depends on the other arms."""
    if entry["what"] != "contrast":
        return entry["what"], entry["name"]
    budget, arm, baseline = entry["name"]
    return "contrast", budget, arm, arm_of(baseline)


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
            named.append(f"{arm} against {baseline} at {budget.replace('_', ' ').replace('flops', 'FLOPs')}")
    return ", ".join(named)
