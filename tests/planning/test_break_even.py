"""When latent inference has repaid its training: by hand-computed values, and by the command."""

import json
from dataclasses import replace

import pytest

from llm_jepa.cli import main
from llm_jepa.evaluation.latency_report import Hardware, LatencyReport, read_latency, write_latency
from llm_jepa.planning.break_even import BreakEven, break_evens, check_same_hardware, extra_training_seconds
from llm_jepa.planning.estimate import Estimate, requests_to_repay
from tests.cli.test_cli import ran
from tests.evaluation.latency_runs import LIMITS, write_drafting_run, write_pair_run

EXTRA = Estimate(90.0, 100.0, 120.0)


def way(mean_seconds: float, right: int = 3) -> dict:
    return {
        "answers": 4, "right": right, "mean_seconds": mean_seconds, "seconds_per_answer": [mean_seconds] * 3,
        "times_faster": 2.0 / mean_seconds,
    }  # fmt: skip


WAYS = {
    "first_token": way(0.1),
    "plain": way(2.0),
    "prompt_lookup": way(1.5),
    "draft": way(1.25),
    "latent": way(1.0, right=2),
    "shortlist": way(1.5),
}
REPORT = LatencyReport(
    "pairs", ("pair",), "rows.jsonl", "test", Hardware("NVIDIA L4", None), "float32", 4, 8, 3, 2**30, {}, None, WAYS
)


def test_an_extra_cost_is_repaid_by_what_each_request_saves():
    assert requests_to_repay(EXTRA, 0.5) == Estimate(180.0, 200.0, 240.0)
    assert requests_to_repay(EXTRA, 0.0) is None
    assert requests_to_repay(EXTRA, -0.5) is None
    assert requests_to_repay(Estimate(-3.0, -2.0, 4.0), 0.5) == Estimate(0.0, 0.0, 8.0)
    assert requests_to_repay(Estimate(-3.0, -2.0, -1.0), -0.5) == Estimate(0.0, 0.0, 0.0), "there is nothing to repay"


def test_a_way_that_training_made_possible_is_held_to_the_fastest_ordinary_one():
    """Prompt lookup takes 1.5 s: drafting saves 0.25 s of it, a latent answer 0.5 s, a shortlist nothing."""
    assert break_evens(EXTRA, WAYS) == [
        BreakEven("draft", "prompt_lookup", 1.25, 1.5, Estimate(360.0, 400.0, 480.0)),
        BreakEven("latent", "prompt_lookup", 1.0, 1.5, Estimate(180.0, 200.0, 240.0)),
        BreakEven("shortlist", "prompt_lookup", 1.5, 1.5, None),
    ]
    assert break_evens(EXTRA, {"plain": way(2.0)}) == []


def test_the_extra_seconds_are_those_of_all_devices_at_the_price_of_the_one_that_answers():
    """Half an hour more on each of 4 devices that cost three times as much."""
    own, sft = Estimate(1.0, 1.5, 2.0), Estimate(0.5, 1.0, 1.0)
    assert extra_training_seconds(own, sft, 4, 3.0) == Estimate(21_600.0, 21_600.0, 43_200.0)


def test_threads_and_device_must_be_the_same():
    check_same_hardware(Hardware("a", 2), Hardware("a", 2))
    for other in (Hardware("a", 1), Hardware("b", 2)):
        with pytest.raises(ValueError, match="was measured on a, 2 threads, and training is timed on"):
            check_same_hardware(other, Hardware("a", 2))


def test_a_report_is_read_as_it_was_written(tmp_path):
    write_latency(REPORT, tmp_path / "a.json")
    assert read_latency(tmp_path / "a.json") == REPORT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content | {"format": 2}, "its format is not 1"),
        (lambda content: {key: value for key, value in content.items() if key != "requests"}, "'requests'"),
        (lambda content: content | {"ways": {}}, "no way 'plain'"),
        (lambda content: content | {"ways": {"plain": {"answers": 1}}}, "'plain' lacks right, mean_seconds"),
        (lambda content: content | {"ways": {"plain": way(1.0) | {"mean_seconds": -1.0}}}, "is -1.0, not above 0"),
        (lambda content: [content], "is no whole file of latencies"),
    ],
)
def test_a_broken_report_is_refused(change, message, tmp_path):
    write_latency(REPORT, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(change(content)))
    with pytest.raises(ValueError, match=message):
        read_latency(tmp_path / "b.json")


def test_a_plan_says_when_training_is_repaid_and_draws_it(tmp_path, monkeypatch, capsys):
    """Counted FLOPs of a GPU, beside answers on a device that costs a fiftieth of it."""
    monkeypatch.chdir(tmp_path)
    write_drafting_run(tmp_path)
    of_drafts = {"model": "drafts", "objectives": ("next_latent",), "hardware": Hardware("a processor", 1)}
    write_latency(replace(REPORT, **of_drafts), tmp_path / "cpu.json")
    prices = ["--price_per_hour", "0.5", "--serving_price_per_hour", "0.01"]
    assert main(["plan", "drafts.yaml", "--latency", "cpu.json", "--gpu", "l4-24gb", *prices]) == 0
    printed = capsys.readouterr().out
    assert (
        "(counted FLOPs at 50 / 35 / 20 % of the peak of l4-24gb; a second of it costs as much as 50 of the" in printed
    )
    assert "latent repays it after 0 / 0 / 0 requests: a request takes 1000 ms, by prompt_lookup" in printed
    assert "right 2 and 3 of 4" in printed
    assert "shortlist never repays it: a request takes 1500 ms" in printed
    assert (tmp_path / "cpu.svg").read_text().count("<svg") == 1


def test_what_was_measured_on_this_machine_is_planned_with_steps_timed_on_it(tmp_path, monkeypatch, capsys):
    """`llm-jepa latency`, then `llm-jepa plan --latency --calibrate`."""
    monkeypatch.chdir(tmp_path)
    write_drafting_run(tmp_path)
    assert main(["latency", "drafts.yaml", *LIMITS]) == 0
    capsys.readouterr()
    assert main(["plan", "drafts.yaml", "--latency", "drafts/latency.json", "--calibrate", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    own, sft = (plan["arms"][name]["hours"]["expected"] for name in ("this recipe", "SFT"))
    assert plan["repayment"]["known_by"] == "steps of both timed on this machine"
    assert plan["repayment"]["extra_seconds"]["expected"] == pytest.approx(3600 * (own - sft))
    assert [one["way"] for one in plan["repayment"]["ways"]] == ["draft"]
    assert (tmp_path / "drafts" / "latency.svg").is_file()


REFUSALS = {
    "--latency l4.json": "`--latency` needs the seconds of training: give `--gpu`, or `--calibrate`",
    "--latency absent.json --gpu l4-24gb": "There is no file `absent.json`",
    "--latency rows.jsonl --gpu l4-24gb": "`rows.jsonl` is no whole file of latencies",
    "--latency l4.json --gpu t4-16gb": "was measured on NVIDIA L4, and training is timed on t4-16gb",
    "--latency other.json --gpu l4-24gb": "with `model_name_or_path: other`; the recipe has `pairs`",
    "--latency l4.json --gpu l4-24gb --jepa_objective tube": "with `jepa_objective: pair`; the recipe has `tube`",
    "--gpu l4-24gb --price_per_hour 1 --serving_price_per_hour 1": "no effect without `--latency` and",
    "--latency l4.json --gpu l4-24gb --price_per_hour 1 --serving_price_per_hour -1": "is -1.0; it must be a finite",
}


def test_what_is_no_latency_of_this_recipe_is_one_line_before_anything_heavy(tmp_path):
    write_pair_run(tmp_path)
    write_latency(REPORT, tmp_path / "l4.json")
    write_latency(replace(REPORT, model="other"), tmp_path / "other.json")
    printed = ran(*(["plan", "pairs.yaml", *words.split()] for words in REFUSALS), directory=tmp_path)
    assert printed.count("status 2") == len(REFUSALS)
    assert "imported:\n" in printed
    for message in REFUSALS.values():
        assert message in printed, message
