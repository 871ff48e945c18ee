"""Keeps the cells of an experiment in the repository, and gives them back to `llm-jepa compare`.

A directory of `benchmarks/results/` holds `cells.json`, the specification and the result of every finished cell,
`search.json`, those of a search, and `design.json`, what is compared with what. The outcomes of test rows are one
character each: `1` right, `0` wrong, `-` not scored.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_jepa.experiments.assembling import assemble_report
from llm_jepa.experiments.cell_spec import RESULT_FILE, SPEC_FILE
from llm_jepa.experiments.declared import DECLARED_FILE
from llm_jepa.files.atomic import write_json

CELLS_FILE, SEARCH_FILE, DESIGN_FILE, REPORT_FILE = "cells.json", "search.json", "design.json", "report.json"
DESIGN_KEYS = ("experiment", "arms", "chosen", "baselines", "series_names", "score_names", "refused", "declared")
OUTCOMES = {"0": 0.0, "1": 1.0, "-": None}
SIGNIFICANT_DIGITS = 5
Cells = dict[str, dict[int, dict[str, Any]]]
"""Series -> seed -> `spec` and `result` of a cell."""


def collect(output_dir: Path, directory: Path) -> int:
    """Write the design and the cells of the last report in `output_dir` into `directory`.

    Cells that the comparison refuses, or that are of no declared arm and seed, are left out.

    Returns:
        The number of cells.

    Raises:
        ValueError: There is no report, no finished cell, or the report lacks cells that were kept before.
    """
    if not (output_dir / REPORT_FILE).is_file():
        raise ValueError(f"{output_dir} has no {REPORT_FILE}: write it by `llm-jepa compare FILE --report_only`.")
    report = read_json(output_dir / REPORT_FILE)
    missing = {f"{series}/{seed}" for series, seed in report["missing"]}
    declared = {f"{series}/{seed}" for series in report["series_names"] for seed in report["experiment"]["seeds"]}
    cells = {name: _cell(output_dir / "cells" / name) for name in sorted(declared - missing)}
    if not cells:
        raise ValueError(f"{output_dir} has no finished cell yet.")
    lost = sorted(read_json(directory / CELLS_FILE).keys() - cells) if (directory / CELLS_FILE).exists() else []
    if lost:
        raise ValueError(
            f"{directory} has cells that the last report of {output_dir} has not, {lost[0]} among them. Write the "
            "report of the whole experiment by `llm-jepa compare FILE --report_only`."
        )
    searched = {
        path.parent.relative_to(output_dir / "search").as_posix(): _cell(path.parent)
        for path in sorted(output_dir.glob(f"search/*/*/{RESULT_FILE}"))
    }
    directory.mkdir(parents=True, exist_ok=True)
    if searched:
        _write_lines(searched, directory / SEARCH_FILE)
    write_json({key: report[key] for key in DESIGN_KEYS if key in report}, directory / DESIGN_FILE)
    _write_lines(cells, directory / CELLS_FILE)
    return len(cells)


def restore(directory: Path, output_dir: Path) -> tuple[int, int]:
    """Write the committed cells below `output_dir`, from where `llm-jepa compare` goes on. None is overwritten.

    Returns:
        The number of cells written, and of those left out because they have no record of their settings.
    """
    written = left_out = 0
    declared = read_json(directory / DESIGN_FILE).get("declared")
    if declared is not None and not (output_dir / DECLARED_FILE).exists():
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(declared, output_dir / DECLARED_FILE)
    for kind, file in (("cells", CELLS_FILE), ("search", SEARCH_FILE)):
        kept = read_json(directory / file) if (directory / file).exists() else {}
        for name, cell in kept.items():
            target = output_dir / kind / name
            if cell["spec"] is None:
                left_out += 1
            elif not (target / RESULT_FILE).exists():
                target.mkdir(parents=True, exist_ok=True)
                write_json(cell["spec"], target / SPEC_FILE)
                write_json(_unpacked(cell["result"]), target / RESULT_FILE)
                written += 1
    return written, left_out


def committed_report(directory: Path) -> dict[str, Any]:
    """The report of a committed experiment, every score and verdict computed anew from the outcomes of its rows."""
    results = {
        series: {seed: cell["result"] for seed, cell in by_seed.items()}
        for series, by_seed in read_cells(directory).items()
    }
    return assemble_report(read_json(directory / DESIGN_FILE), results)


def read_cells(directory: Path) -> Cells:
    """The committed cells of an experiment."""
    cells: Cells = {}
    for name, cell in read_json(directory / CELLS_FILE).items():
        series, _, seed = name.rpartition("/")
        cells.setdefault(series, {})[int(seed)] = {"spec": cell["spec"], "result": _unpacked(cell["result"])}
    return cells


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _cell(directory: Path) -> dict[str, Any]:
    return {"spec": read_json(directory / SPEC_FILE), "result": _packed(read_json(directory / RESULT_FILE))}


def _packed(result: dict[str, Any]) -> dict[str, Any]:
    characters = {value: character for character, value in OUTCOMES.items()}
    rows: dict[str, str | list[Any]] = {}
    for score, values in result["rows"].items():
        is_outcome = all(value in characters for value in values)
        rows[score] = "".join(characters[value] for value in values) if is_outcome else _rounded(values)
    return result | {"rows": rows, "training": _rounded(result["training"])}


def _unpacked(result: dict[str, Any]) -> dict[str, Any]:
    rows = {
        score: [OUTCOMES[value] for value in values] if isinstance(values, str) else values
        for score, values in result["rows"].items()
    }
    return result | {"rows": rows}


def _rounded(value: Any) -> Any:
    """A tree whose numbers have a few significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _write_lines(cells: Mapping[str, Any], path: Path) -> None:
    """One line for each cell, so that a later cell adds a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(cell, sort_keys=True)}" for name, cell in cells.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
