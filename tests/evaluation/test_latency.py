"""`llm-jepa latency` measures every way that a run has, and refuses in one line what it cannot measure."""

import json
import shutil

import pytest
import torch

from llm_jepa.cli import main
from llm_jepa.evaluation import latency
from llm_jepa.evaluation.interleaving import interleave
from llm_jepa.evaluation.latency import hardware_of
from llm_jepa.evaluation.latency_report import FIGURES, read_latency
from llm_jepa.models.merging import merge
from llm_jepa.runs.record import toolkit_commit
from tests.architectures import tiny_model
from tests.cli.test_cli import ran
from tests.evaluation.latency_runs import LIMITS, write_drafting_run, write_pair_run, write_run
from tests.inference.test_answer_command import write_predictor
from tests.models.test_merging import save_adapter
from tests.tiny import PAIRS

ALWAYS = ["first_token", "plain", "prompt_lookup"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_of_pairs_chooses_beside_generating_and_the_file_says_on_what(place, capsys):
    write_pair_run(place)
    assert main(["latency", "pairs.yaml", *LIMITS, "--shortlist", "2", "--output", "out/a.json"]) == 0
    printed = capsys.readouterr().out
    assert "candidates to choose from: 8 for every row" in printed
    assert "No drafted tokens: they need `jepa_objective: next_latent`." in printed
    report = read_latency(place / "out" / "a.json")
    assert [*report.ways] == [*ALWAYS, "latent", "shortlist", "likelihood"]
    assert report.hardware == hardware_of(torch.device("cpu"))
    assert (report.model, report.objectives, report.dtype) == ("pairs", ("pair",), "float32")
    assert (report.requests, report.candidates, report.max_new_tokens) == (3, 8, 4)
    assert report.commit == toolkit_commit()
    for name, figures in report.ways.items():
        assert {*FIGURES} <= {*figures}
        assert figures["answers"] == 3
        low, middle, high = figures["seconds_per_answer"]
        assert 0 < low <= middle <= high
        assert (figures["right"] is None) == (name == "first_token")
    assert report.ways["prompt_lookup"]["same_text"] == 3
    assert report.peak_memory_bytes > 0


def test_the_right_answers_are_those_of_eval(place, capsys):
    """Chosen from a row's own choices."""
    write_pair_run(place, task="choice", choices_column="options")
    names = ["latent", "shortlist", "likelihood"]
    assert main(["latency", "pairs.yaml", *LIMITS]) == 0
    assert "candidates to choose from: each row's own" in capsys.readouterr().out
    assert main(["eval", "pairs.yaml", "--decoding", ",".join(names), "--max_rows", "3"]) == 0
    evaluated = json.loads((place / "pairs" / "decodings.json").read_text())["decodings"]
    ways = read_latency(place / "pairs" / "latency.json").ways
    assert [ways[name]["right"] for name in names] == [evaluated[name]["accuracy"]["hits"] for name in names]


def test_a_run_whose_source_view_is_a_column_ranks_nothing_nor_does_what_it_is_merged_to(place, capsys):
    """Nor where the command line leaves the column out."""
    write_run(place, "base", output_dir="pairs", source_view_column="source", target_view_column="options")
    write_predictor(save_adapter(place / "pairs", "base"))
    shutil.copyfile("base.yaml", "pairs/recipe.yaml")
    merge("pairs", place / "merged")
    data = "--dataset_name rows.jsonl --dataset_test_split train --source_column source --target_column target"
    no_views = ["--source_view_column", "null", "--target_view_column", "null"]
    for subject in (["merged", *data.split(" "), "--use_cpu", "true"], ["pairs", *no_views]):
        assert main(["latency", *subject, *LIMITS, "--output", "latency.json"]) == 0
        assert "No latent answers" in capsys.readouterr().out
        assert [*read_latency(place / "latency.json").ways] == ALWAYS
        for refused in (["latency", *subject, "--shortlist", "2"], ["eval", *subject, "--decoding", "latent"]):
            with pytest.raises(SystemExit):
                main(refused)
            assert "this run has a `source_view_column`" in capsys.readouterr().err


def test_a_run_with_a_drafter_drafts_the_same_text(place, capsys):
    write_drafting_run(place)
    assert main(["latency", "drafts.yaml", *LIMITS, "--num_drafted_tokens", "2", "--dtype", "float32"]) == 0
    assert "No latent answers: they need `jepa_objective: pair`" in capsys.readouterr().out
    ways = read_latency(place / "drafts" / "latency.json").ways
    assert [*ways] == [*ALWAYS, "draft"]
    assert ways["draft"]["same_text"] == 3
    assert ways["draft"]["acceptance"]


def test_a_run_without_a_predictor_is_measured_in_the_ways_that_need_none(place, capsys):
    """With labels their likelihoods too."""
    write_run(place, "none")
    (place / "labels.txt").write_text("\n".join(pair["target"] for pair in PAIRS))
    assert main(["latency", "none.yaml", *LIMITS]) == 0
    assert "The run has no latent predictor: nothing is drafted or ranked in latent space." in capsys.readouterr().out
    assert [*read_latency(place / "none" / "latency.json").ways] == ALWAYS
    assert main(["latency", "none.yaml", *LIMITS, "--labels", "labels.txt"]) == 0
    report = read_latency(place / "none" / "latency.json")
    assert [*report.ways] == [*ALWAYS, "likelihood"]
    assert report.candidates == 8


def test_a_model_whose_cache_cannot_be_cropped_is_measured_without_drafts(place, capsys):
    write_run(place, "none")
    tiny_model("mamba2", vocab_size=320).save_pretrained(place / "none")
    assert main(["latency", "none.yaml", *LIMITS]) == 0
    assert "The cache of a mamba2 model cannot be cropped: nothing is drafted." in capsys.readouterr().out
    assert [*read_latency(place / "none" / "latency.json").ways] == ["first_token", "plain"]


def test_every_way_of_a_run_takes_its_turn(place, monkeypatch):
    """By the order of the calls: each row is answered in all ways before the next, first by another one."""
    write_pair_run(place)
    calls = []

    def recorded(ways, requests, **options):
        def of(name):
            return lambda request: calls.append((name, request)) or ways[name](request)

        return interleave({name: of(name) for name in ways}, requests, **options)

    monkeypatch.setattr(latency, "interleave", recorded)
    assert main(["latency", "pairs.yaml", *LIMITS]) == 0
    names = [*ALWAYS, "latent", "shortlist", "likelihood"]
    turns = [(name, row) for row in range(3) for name in names[row:] + names[:row]]
    assert calls == [*((name, 0) for name in names), *turns]


REFUSALS = {
    "absent": "`absent` is no directory",
    "pairs.yaml --output_dir nope": "`output_dir: nope` holds no trained model or adapter. Train first",
    "pairs.yaml --max_rows 0": "'0' is not a whole number of at least 1",
    "pairs.yaml --max_new_tokens -1": "'-1' is not a whole number of at least 1",
    "pairs.yaml --num_drafted_tokens 2": "is of pair, which drafts no tokens",
    "drafts.yaml --shortlist 2": "is of next_latent, which encodes no views",
    "none.yaml --draft_vocabulary 9": "The run has no latent predictor",
    "none.yaml --labels absent.txt": "There is no file `absent.txt`",
    "none.yaml --labels labels.txt --task choice --choices_column options": "`--labels` has no effect with `task:",
}


def test_what_cannot_be_measured_is_one_line_before_anything_heavy(tmp_path):
    write_pair_run(tmp_path)
    write_drafting_run(tmp_path)
    write_run(tmp_path, "none")
    printed = ran(*(["latency", *words.split()] for words in REFUSALS), directory=tmp_path)
    assert printed.count("status 2") == len(REFUSALS)
    assert "imported:\n" in printed
    for message in REFUSALS.values():
        assert message in printed, message
