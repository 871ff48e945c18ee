"""Each decoding scores the candidates as it says, and `llm-jepa eval --decoding` measures them side by side."""

import json
import re

import numpy as np
import pytest
import torch
import yaml

from llm_jepa.cli import main
from llm_jepa.cli.argument_types import DECODINGS
from llm_jepa.evaluation import decodings
from llm_jepa.evaluation.candidate_task import choice_task, retrieval_task
from llm_jepa.evaluation.decoding_results import highest_probability, measure
from llm_jepa.evaluation.decodings import (
    Decoding,
    GenerateDecoding,
    LatentDecoding,
    LikelihoodDecoding,
    ShortlistDecoding,
)
from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.evaluation.likelihood import choice_likelihoods
from tests.cli.test_cli import ran
from tests.inference.latent_runs import embeddings_of_training, encoder_of, new_trainer
from tests.inference.test_answer_command import write_predictor
from tests.tiny import PAIRS, save_tiny_model

PROMPTS = [[{"role": "user", "content": pair["source"]}] for pair in PAIRS]
TARGETS = [pair["target"] for pair in PAIRS]
ROWS = [
    HeldOutRow(i, i, prompt, {}, pair["source"], pair["target"], None, (pair["target"], TARGETS[i - 1]))
    for i, (prompt, pair) in enumerate(zip(PROMPTS, PAIRS, strict=True))
]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return new_trainer(tmp_path_factory.mktemp("run"), jepa_source_view="prefix")


def test_latent_scores_are_the_cosines_of_training(trainer):
    prediction_ND, target_ND = embeddings_of_training(trainer)
    cosine_NN = torch.cosine_similarity(prediction_ND[:, None], target_ND[None], dim=-1).numpy()
    encoder = encoder_of(trainer)
    shared = LatentDecoding(retrieval_task(ROWS, TARGETS), 3, encoder, 0.1).scores(range(8))
    np.testing.assert_allclose(np.stack(shared), cosine_NN, atol=1e-5)
    own = LatentDecoding(choice_task(ROWS), 3, encoder, 0.1).scores([2, 5])
    expected = [[cosine_NN[2, 2], cosine_NN[2, 1]], [cosine_NN[5, 5], cosine_NN[5, 4]]]
    np.testing.assert_allclose(own, expected, atol=1e-5)


def test_latent_scores_of_a_run_on_plain_strings_are_those_of_training(tmp_path):
    rows = [{"prompt": pair["source"], "completion": f" {pair['target']}"} for pair in PAIRS]
    options = {"source_column": None, "target_column": None, "jepa_source_view": "prefix"}
    trainer = new_trainer(tmp_path, None, rows, **options)
    prediction_ND, target_ND = embeddings_of_training(trainer)
    cosine_NN = torch.cosine_similarity(prediction_ND[:, None], target_ND[None], dim=-1).numpy()
    held_out = [HeldOutRow(i, i, row["prompt"], {}, row["prompt"], row["completion"]) for i, row in enumerate(rows)]
    task = retrieval_task(held_out, [row.gold for row in held_out])
    scores = LatentDecoding(task, 3, encoder_of(trainer), 0.1).scores(range(8))
    np.testing.assert_allclose(np.stack(scores), cosine_NN, atol=1e-5)


def test_likelihoods_are_those_of_choices_with_their_end(trainer):
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    scores = LikelihoodDecoding(retrieval_task(ROWS, TARGETS), 5, model, tokenizer).scores([0, 3])
    ended = [f"{target}<|im_end|>" for target in TARGETS]
    expected = choice_likelihoods(model, tokenizer, [PROMPTS[0], PROMPTS[3]], [ended, ended], 8)
    np.testing.assert_allclose(scores, [row.log_probs for row in expected], atol=1e-3)


def test_a_shortlist_has_the_likelihoods_of_the_nearest_alone(trainer):
    task, model, tokenizer = retrieval_task(ROWS, TARGETS), trainer.model.eval(), trainer.processing_class
    latent = LatentDecoding(task, 3, encoder_of(trainer), 0.1)
    likelihood = LikelihoodDecoding(task, 5, model, tokenizer)
    (cosine_R,), (log_prob_R,) = latent.scores([2]), likelihood.scores([2])
    (score_R,) = ShortlistDecoding(latent, likelihood, 3).scores([2])
    kept = np.argsort(-cosine_R)[:3]
    np.testing.assert_allclose(score_R[kept], log_prob_R[kept], atol=1e-3)
    assert np.isneginf(np.delete(score_R, kept)).all()


def test_the_candidate_that_is_generated_scores_one(trainer):
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    (written,) = generate_completions(model, tokenizer, PROMPTS[:1], 4, 1)
    row = HeldOutRow(0, 0, PROMPTS[0], {}, "", "a", None, ("a", written.text))
    (score_R,) = GenerateDecoding(choice_task([row]), 1, model, tokenizer, 4).scores([0])
    assert score_R.tolist() == [0, 1]


class Given(Decoding):
    """Scores that are given."""

    name, temperature = "latent", 1.0

    def __init__(self, task, score_NR):
        super().__init__(task, 2)
        self.score_NR = score_NR

    def scores(self, indices):
        return [np.array(self.score_NR[i]) for i in indices]


def test_ties_and_a_text_that_is_no_candidate_are_misses():
    rows = [HeldOutRow(i, i, "q", {}, "q", "a", None, ("a", "b", "c")) for i in range(4)]
    result = measure(Given(choice_task(rows), [[2, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 2]]))
    assert result.ranks == [1, 2, 3, 3]
    report = result.report()
    assert report["accuracy"]["hits"] == 1
    assert report["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 3) / 4)
    assert report["recall"] == {"1": 0.25, "5": 1.0, "10": 1.0}
    assert report["timed_requests"] == 4


def test_a_confidence_is_the_highest_probability():
    assert highest_probability(np.array([np.log(3.0), 0.0]), 1.0) == pytest.approx(0.75)
    assert highest_probability(np.array([0.5, 0.5]), 0.01) == pytest.approx(0.5)


def test_the_command_line_knows_every_decoding():
    assert DECODINGS == decodings.DECODINGS


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe, data with choices, and a model with a latent predictor in place of a run."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "model")
    save_tiny_model(tmp_path / "run")
    write_predictor(tmp_path / "run")
    (tmp_path / "data").mkdir()
    for split, start in (("train", "all "), ("test", "")):
        rows = [
            pair | {"source": start + pair["source"], "options": list(row.choices)}
            for pair, row in zip(PAIRS, ROWS, strict=True)
        ]
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model_name_or_path": "model", "dataset_name": "data", "output_dir": "run", "source_column": "source",
        "target_column": "target", "bf16": False, "use_cpu": True,
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "recipe.yaml"


def test_the_decodings_are_measured_side_by_side_with_a_fallback_chosen_on_other_rows(recipe, capsys):
    fallback = ["--fallback_margin", "auto", "--dev_split", "train[:5]"]
    options = ["--max_new_tokens", "4", "--eval_batch_size", "4", *fallback]
    assert main(["eval", "recipe.yaml", "--decoding", ",".join(DECODINGS), *options]) == 0
    printed = capsys.readouterr().out
    assert "8 rows, each with 8 candidates" in printed
    assert re.search(r"latent, generated (below a margin of [\d.e-]+|at every margin): accuracy", printed)
    assert "peak memory, GiB" in printed
    report = json.loads((recipe.parent / "run" / "decodings.json").read_text())
    assert [*report["decodings"]] == [*DECODINGS]
    assert report["decodings"]["generate"]["calibration_error"] is None
    curve = report["fallback"]["curve"]
    assert curve[0]["share_generated"] == 0
    assert (curve[-1]["share_generated"], curve[-1]["margin"]) == (1, None)
    assert report["fallback"]["dev_split"] == "train[:5]"
    assert "<svg" in (recipe.parent / "run" / "fallback.svg").read_text()


def test_a_fallback_is_not_chosen_on_rows_that_are_tested(recipe, capsys):
    """Of `test` itself, and of another file with two of its rows, one of them spaced otherwise."""
    pairs = [PAIRS[3], {"source": "another", "target": "[a-z]"}, PAIRS[5] | {"source": f" {PAIRS[5]['source']}\n"}]
    rows = [pair | {"options": []} for pair in pairs]
    (recipe.parent / "data" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eval", "recipe.yaml", "--decoding", "latent,generate", "--fallback_margin", "auto", "--dev_split"]
    for split, said in (("test", "8 of the 8 rows"), ("validation", "2 of the 3 rows")):
        with pytest.raises(SystemExit):
            main([*command, split])
        assert f"{said} of `--dev_split {split}` are tested too (the first is row 0)" in capsys.readouterr().err
    assert not (recipe.parent / "run" / "decodings.json").exists()


def test_what_is_said_of_the_prompts_is_said_once(recipe, capsys):
    """Also where a dev split is read; a finding of its rows is another one, and names the split."""
    for split, start in (("train", "all "), ("test", "")):
        rows = [{"prompt": f"{start}lines with a ", "completion": completion} for completion in ("number", "vowel")]
        (recipe.parent / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = yaml.safe_load(recipe.read_text())
    settings = {key: value for key, value in settings.items() if not key.endswith("_column")}
    recipe.write_text(yaml.safe_dump(settings))
    (recipe.parent / "run" / "recipe.yaml").write_text(yaml.safe_dump(settings | {"system_prompt": "Write a regex."}))
    options = ["--fallback_margin", "auto", "--dev_split", "train", "--max_new_tokens", "1"]
    assert main(["eval", "recipe.yaml", "--decoding", "latent,generate", *options]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("The run", "In "))]
    assert len(said) == len({*said}), said
    assert sum("was trained on other prompts" in line for line in said) == 1
    assert [line.split(",")[0] for line in said if line.startswith("In ")] == [
        f"In 2 of 2 rows of the held-out ({split}) data" for split in ("test", "train")
    ]


def test_a_row_chooses_from_its_choices_or_from_labels(recipe, capsys):
    choice = ["--task", "choice", "--choices_column", "options"]
    assert main(["eval", "recipe.yaml", "--decoding", "latent", *choice, "--predictions", "one"]) == 0
    assert "each with its own candidates" in capsys.readouterr().out
    (recipe.parent / "labels.txt").write_text("\n".join([*TARGETS, "none of them"]))
    assert main(["eval", "run", "--decoding", "latent", "--labels", "labels.txt", "--max_rows", "4",
                 "--dataset_name", "data", "--source_column", "source", "--target_column", "target",
                 "--predictions", "two"]) == 0  # fmt: skip
    assert "4 rows, each with 9 candidates" in capsys.readouterr().out
    assert json.loads((recipe.parent / "two" / "decodings.json").read_text())["candidates"] == 9


def test_a_sample_of_rows_chooses_from_the_targets_of_the_whole_split(recipe, capsys):
    command = ["eval", "recipe.yaml", "--decoding", "latent,likelihood", "--max_rows", "3", "--predictions"]
    assert main([*command, "sample"]) == 0
    assert "3 rows, each with 8 candidates" in capsys.readouterr().out
    (recipe.parent / "targets.txt").write_text("\n".join(TARGETS))
    assert main([*command, "labels", "--labels", "targets.txt"]) == 0
    files = [recipe.parent / name / "decodings.json" for name in ("sample", "labels")]
    sample, labels = (json.loads(file.read_text())["decodings"] for file in files)
    for name in ("latent", "likelihood"):
        assert sample[name]["mean_reciprocal_rank"] == pytest.approx(labels[name]["mean_reciprocal_rank"])


def test_mistakes_are_told_without_a_library_that_takes_seconds(recipe):
    place = recipe.parent
    (place / "twice.txt").write_text("a\na\n")
    save_tiny_model(place / "plain")
    latent = ["recipe.yaml", "--decoding", "latent"]
    wrong = {
        "'nearest'; allowed are latent, likelihood, shortlist, generate; or draft, plain": [*latent[:2], "nearest"],
        "`--shortlist` has no effect without `--decoding shortlist`": [*latent, "--shortlist", "3"],
        "`--labels` has no effect without `--decoding`": ["recipe.yaml", "--labels", "twice.txt"],
        "`--checkpoints` has no effect with `--decoding`": [*latent, "--checkpoints", "tuned"],
        "`--backend vllm` has no effect": [*latent, "--backend", "vllm"],
        "answers 1 and 2 are the same": [*latent, "--labels", "twice.txt"],
        "`--fallback_margin` needs both: `--decoding latent,generate`": [*latent, "--fallback_margin", "0.1"],
        "'-1' is neither a number of at least 0 nor auto": [*latent, "--fallback_margin", "-1"],
        "give `--dev_split SPLIT`": [*latent[:2], "latent,generate", "--fallback_margin", "auto"],
        "`--dev_split` has an effect with `--fallback_margin auto` alone": [*latent, "--dev_split", "train"],
        "`dev_split: train[9]` is no split": [
            *latent[:2], "latent,generate", "--fallback_margin", "auto", "--dev_split", "train[9]",
        ],
        "The run has no latent predictor": [*latent, "--output_dir", "plain"],
        "`--labels` has no effect with `task: choice`": [
            *latent, "--labels", "twice.txt", "--task", "choice", "--choices_column", "options",
        ],
        "this run has a `source_view_column`": [
            *latent, "--source_view_column", "source", "--target_view_column", "target",
        ],
    }  # fmt: skip
    printed = ran(*(["eval", *arguments] for arguments in wrong.values()), directory=place)
    for message in wrong:
        assert message in printed, (message, printed)
    assert printed.count("status 2") == len(wrong)
    assert "imported:\n" in printed
