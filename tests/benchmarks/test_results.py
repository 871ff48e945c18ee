"""benchmarks/results.py: the page is made from the committed results alone, and no document claims more."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds its neighbours
results = importlib.import_module("results")
cells, claims, experiment, page, values = (
    importlib.import_module(f"evidence.{name}") for name in ("cells", "claims", "experiment", "page", "values")
)


def test_what_has_no_finished_cell_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--report_only"):
        cells.collect(tmp_path, tmp_path / "kept")
    report = {"missing": [["lm_only", 1]], "series_names": ["lm_only"], "experiment": {"seeds": [1]}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="no finished cell"):
        cells.collect(tmp_path, tmp_path / "kept")


def test_cells_without_a_record_of_their_settings_are_not_given_back(tmp_path, capsys):
    """`compare` could not tell whether they are of its experiment."""
    results.main(["restore", "nl_rx_synth-smollm2-135m", str(tmp_path / "restored")])
    said = capsys.readouterr().out
    assert "0 cells written" in said
    assert "35 cells have no record of their settings" in said
    assert not list(tmp_path.rglob("*.json"))


def write_output(output_dir, *names):
    """An output directory with the report of some cells of `lm` and `x`, and these cells."""
    report = {"series_names": ["lm", "x"], "experiment": {"seeds": [1]}}
    report["missing"] = [[arm, 1] for arm in ("lm", "x") if f"cells/{arm}/1" not in names]
    output_dir.mkdir(exist_ok=True)
    (output_dir / "report.json").write_text(json.dumps(report))
    for name in names:
        (output_dir / name).mkdir(parents=True, exist_ok=True)
        (output_dir / name / "cell.json").write_text(json.dumps({"cell": name}))
        result = {"rows": {"strict": [1.0, 0.0, None]}, "training": {"seconds": 1.5}}
        (output_dir / name / "result.json").write_text(json.dumps(result))


def test_kept_cells_are_given_back_with_those_of_the_search(tmp_path):
    names = ["cells/lm/1", "cells/x/1", "search/x/0"]
    write_output(tmp_path / "output", *names)
    assert cells.collect(tmp_path / "output", tmp_path / "kept") == 2
    (tmp_path / "kept" / "design.json").write_text("{}")
    assert cells.restore(tmp_path / "kept", tmp_path / "again") == (3, 0)
    for name in names:
        for file in ("cell.json", "result.json"):
            assert cells.read_json(tmp_path / "again" / name / file) == cells.read_json(
                tmp_path / "output" / name / file
            )


def test_a_report_of_a_part_does_not_replace_more_cells(tmp_path):
    write_output(tmp_path / "output", "cells/lm/1", "cells/x/1")
    cells.collect(tmp_path / "output", tmp_path / "kept")
    write_output(tmp_path / "part", "cells/lm/1")
    with pytest.raises(ValueError, match=r"has cells that the last report of .*part has not, x/1 among them"):
        cells.collect(tmp_path / "part", tmp_path / "kept")


def test_the_committed_page_is_what_the_committed_cells_say(tmp_path):
    """Also that README, recipes and pages claim what the results say: a false claim is an error."""
    written = results.write_page(tmp_path)
    assert Path("docs/results.md") in written
    different = [str(path) for path in written if (tmp_path / path).read_text() != (ROOT / path).read_text()]
    assert different == [], "run `python benchmarks/results.py`"
    drawn = {path.name for path in written if path.parent == results.FIGURES}
    assert {path.name for path in (ROOT / results.FIGURES).iterdir()} == drawn


def test_figures_of_papers_name_the_table_or_figure_they_are_from():
    _, _, sections = page.page_sections(values.Values(results.RESULTS), "docs")
    (table,) = next(section for section in sections if section.title == "Beside the papers").tables
    assert table.rows
    for paper, *_ in table.rows:
        assert re.search(r", (table|figure) \d+[a-z]?$|, abstract$", paper), paper


def test_a_claim_that_no_result_carries_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("It is 9.9 times faster.")
    with pytest.raises(ValueError, match=r"README\.md does not say .*1\.03 to 1\.12 times"):
        claims.check_claims(values.Values(results.RESULTS), tmp_path)


def test_a_claim_that_its_log_entry_does_not_carry_is_refused(tmp_path, monkeypatch):
    """The text must stand in the entry that the claim names, not elsewhere in the log."""
    claim = {"file": "README.md", "text": "twice as fast", "log": "2026-01-02: a run", "log_says": "2.0 times"}
    monkeypatch.setattr(claims, "_claims", lambda: [claim])
    (tmp_path / "README.md").write_text("It is twice\nas fast.")
    log = tmp_path / "benchmarks" / "LOG.md"
    log.parent.mkdir()
    found = values.Values(results.RESULTS)
    log.write_text("# Log\n\n## 2026-01-02: a run (commit a)\n**2.0\ntimes**\n\n## 2026-01-01: before\n1.0 times\n")
    claims.check_claims(found, tmp_path)
    for entries in ("1.0 times\n\n## 2026-01-01: before\n2.0 times\n", ""):
        log.write_text("# Log\n" + (f"\n## 2026-01-02: a run\n{entries}" if entries else ""))
        with pytest.raises(ValueError, match=r"has no '2\.0 times' under '2026-01-02: a run'"):
            claims.check_claims(found, tmp_path)


def test_placeholders_are_filled_from_their_file(tmp_path):
    (tmp_path / "a.json").write_text('{"x": [{"draft 4": 2.386, "share": -0.0147}, {"seconds": 3}, {"seconds": 4}]}')
    found = values.Values(tmp_path)
    assert found.fill("{a.json:x/0/draft 4:.2f} times, {a.json:x/0/share:points} points") == "2.39 times, -1.5 points"
    assert found.fill("{a.json:x/0/share:size}, {a.json:x/0/share:percent}") == "1.5, -1.5"
    assert found.fill("{a.json:x/1/seconds ÷ x/2/seconds:.2f}") == "0.75"
    (tmp_path / "p.json").write_text("[0.0184, 0.0009]")
    assert found.fill("{p.json:0:p}, {p.json:1:p}") == "p = 0.018, p < 0.001"
    with pytest.raises(
        ValueError, match=r"a\.json has no `x/0/lost`: where `lost` was sought there are draft 4, share"
    ):
        found.fill("{a.json:x/0/lost:.2f}")
    with pytest.raises(ValueError, match=r"There is no .*b\.json"):
        found.fill("{b.json:x:.2f}")


def test_tables_of_seeds_and_of_the_training_by_hand():
    """`x` lacks a seed: no mean is given, since it would be of other seeds."""

    def series(*scores: tuple[float, float]) -> dict:
        points = {seed: [{"step": 10, "scores": {"strict": before}}] for seed, (before, _) in enumerate(scores)}
        return {
            "scores": {"strict": {"by_seed": {seed: end for seed, (_, end) in enumerate(scores)}, "mean": 0.5}},
            "curve": {
                seed: [*points[seed], {"step": 20, "scores": {"strict": end}}] for seed, (_, end) in enumerate(scores)
            },
        }

    report = {
        "experiment": {"primary_score": "strict", "seeds": [0, 1]},
        "comparisons": {},
        "series": {"lm": series((0.1, 0.2), (0.3, 0.8)), "x": series((0.0, 0.5))},
    }
    assert experiment.curve_means(report) == {"lm": {10: pytest.approx(0.2), 20: 0.5}}
    assert experiment.table(report, "seeds").rows == [
        ["lm", "2 of 2", "20.0", "80.0", "50.0"],
        ["x", "1 of 2", "50.0", "-", "-"],
    ]
    assert experiment.table(report, "curve").rows == [["lm", "20.0", "50.0"]]


def test_links_of_the_page_lead_to_files_of_the_repository():
    for folder in ("docs", "benchmarks/results"):
        _, header, sections = page.page_sections(values.Values(results.RESULTS), folder)
        text = "\n".join([*header, *(note for section in sections for note in section.notes)])
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert len(links) > 5
        assert [link for link in links if not (ROOT / folder / link).exists()] == []
