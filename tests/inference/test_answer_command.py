"""`llm-jepa answer`: from a directory of a model to answers, and what it refuses before torch is imported."""

import json

import pytest
import torch

from llm_jepa import JEPAConfig
from llm_jepa.cli import main
from llm_jepa.inference import AnswerIndex, LatentEncoder
from llm_jepa.models.latent_predictor import facts_of, write_latent_predictor
from llm_jepa.models.merging import merge
from llm_jepa.settings.objectives import VIEW_OPTIONS
from tests.cli.test_cli import ran
from tests.models.test_merging import save_adapter
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

TARGETS = [pair["target"] for pair in PAIRS]
DEFAULTS = JEPAConfig.__dataclass_fields__
OPTIONS = {name: DEFAULTS[name].default for name in VIEW_OPTIONS}


def write_predictor(directory, seed=0):
    generator = torch.Generator().manual_seed(seed)
    facts = facts_of(tiny_llama(), tiny_tokenizer(), ("pair",), OPTIONS)
    write_latent_predictor(directory, facts, {"vectors_KD": torch.randn(1, 32, generator=generator)})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model with a latent predictor, and answers beside it."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "run")
    write_predictor(tmp_path / "run")
    (tmp_path / "answers.txt").write_text("\n".join(TARGETS))
    return tmp_path


def test_an_index_is_built_once_and_answers_in_words_and_in_json(place, capsys):
    build = ["answer", "run", "--index", "index", "--answers", "answers.txt"]
    assert main([*build, "--query", PAIRS[0]["source"], "--top", "2"]) == 0
    encoder, index = LatentEncoder.from_run("run"), AnswerIndex.load("index")
    (hits,) = index.ask(encoder, [PAIRS[0]["source"]], 2)
    lines = [f"  {hit.score:.4f}  {hit.answer}" for hit in hits]
    assert capsys.readouterr().out.splitlines() == [PAIRS[0]["source"], *lines]
    (place / "queries.txt").write_text("\n".join(pair["source"] for pair in PAIRS[:3]))
    assert main([*build, "--queries", "queries.txt", "--json"]) == 0  # the same answers: the index is used
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["query"] for one in printed] == [pair["source"] for pair in PAIRS[:3]]
    assert [answer["answer"] for answer in printed[0]["answers"]][:2] == [hit.answer for hit in hits]
    assert {*printed[0]["answers"][0]} == {"answer", "score", "num_equal"}


def test_an_index_is_built_from_a_column(place, capsys):
    (place / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS + PAIRS))
    data = ["--answers", "rows.jsonl", "--answers_column", "target"]
    assert main(["answer", "run", "--index", "index", *data]) == 0
    assert capsys.readouterr().out == "8 answers: index\n"
    assert AnswerIndex.load("index").answers == TARGETS
    assert main(["answer", "run", "--index", "index", *data, "--answers_split", "train[:8]"]) == 0  # the same answers
    with pytest.raises(SystemExit):
        main(["answer", "run", "--index", "index", *data, "--answers_split", "train[:7]", "--query", "q"])
    assert "The index `index` has other answers than `rows.jsonl`" in capsys.readouterr().err
    assert AnswerIndex.load("index").answers == TARGETS


def test_answers_are_added_to_an_index_and_deleted_from_it(place, capsys):
    """The index is saved, and the query of the same line asks the changed one."""
    assert main(["answer", "run", "--index", "index", "--answers", "answers.txt"]) == 0
    (place / "new.txt").write_text("[aeiou]\n")
    (place / "old.txt").write_text(f"{TARGETS[2]}\n{TARGETS[0]}\n")
    capsys.readouterr()
    assert main(["answer", "run", "--index", "index", "--add", "new.txt", "--delete", "old.txt", "--query", "q"]) == 0
    changed = [TARGETS[1], *TARGETS[3:], "[aeiou]"]
    assert AnswerIndex.load("index").answers == changed
    (hits,) = AnswerIndex.build(LatentEncoder.from_run("run"), changed).ask(LatentEncoder.from_run("run"), ["q"], 5)
    assert [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()[1:]] == [hit.answer for hit in hits]
    assert main(["answer", "run", "--index", "index", "--delete", "new.txt"]) == 0
    assert capsys.readouterr().out == "6 answers: index\n"


def test_an_adapter_and_what_it_is_merged_to_have_the_same_embeddings(tmp_path):
    adapter = save_adapter(tmp_path / "adapter", save_tiny_model(tmp_path / "base"))
    write_predictor(adapter)
    merge(str(adapter), tmp_path / "merged")
    adapted, merged = LatentEncoder.from_run(adapter), LatentEncoder.from_run(tmp_path / "merged")
    for encode in ("encode_sources", "encode_targets"):
        one, other = getattr(adapted, encode)(TARGETS), getattr(merged, encode)(TARGETS)
        assert (torch.cosine_similarity(one, other) > 0.999).all()  # both are loaded in bf16, as by `eval`
    assert adapted.checkpoint != merged.checkpoint
    assert adapted.predictor == merged.predictor


def test_mistakes_end_in_one_line_without_a_library_that_takes_seconds(place):
    main(["answer", "run", "--index", "index", "--answers", "answers.txt"])
    save_tiny_model(place / "plain")
    save_tiny_model(place / "other", initializer_range=0.3)
    write_predictor(place / "other")
    save_tiny_model(place / "retrained")
    write_predictor(place / "retrained", seed=1)
    (place / "twice.txt").write_text("a\nb\na\n")
    (place / "blank.txt").write_text("a\n \n")
    (place / "one.txt").write_text("a\n")
    (place / "known.txt").write_text(f" {TARGETS[3]}\n")
    (place / "cut").mkdir()
    for path in (place / "index").iterdir():
        (place / "cut" / path.name).write_bytes(path.read_bytes()[: -1 if path.suffix == ".npy" else None])
    new, ask = ["run", "--index", "new", "--query", "q"], ["--index", "index", "--query", "q"]
    wrong = {
        "There is nothing to answer": ["run", "--index", "index"],
        "`--query` is empty": ["run", "--index", "index", "--query", " "],
        "argument --query: '\\udcff' is not UTF-8": ["run", "--index", "index", "--query", "\udcff"],
        "argument --top: '0' is not a whole number of at least 1": ["run", *ask, "--top", "0"],
        "There is no file `no.txt`": ["run", "--index", "index", "--queries", "no.txt"],
        "`blank.txt`, line 2: the query is empty": ["run", "--index", "index", "--queries", "blank.txt"],
        "`absent` is no directory": ["absent", *ask],
        "The run has no latent predictor": ["plain", *ask],
        "`new` holds no index of answers": new,
        "answers 1 and 3 are the same": [*new, "--answers", "twice.txt"],
        "`blank.txt`, line 2: the answer is empty": [*new, "--answers", "blank.txt"],
        "`--answers_column` has no effect": [*new, "--answers_column", "target"],
        "`--answers_split` has no effect": ["run", *ask, "--answers", "answers.txt", "--answers_split", "test"],
        "no file or directory `absent.jsonl`": [*new, "--answers", "absent.jsonl", "--answers_column", "a"],
        "`run` holds ": ["run", "--index", "run", "--query", "q", "--answers", "answers.txt"],
        "has embeddings of another checkpoint": ["other", *ask],
        "has embeddings by another latent predictor": ["retrained", *ask],
        "has other answers than `one.txt`": ["run", *ask, "--answers", "one.txt"],
        "`--add` and `--delete` change an index": ["run", *ask, "--answers", "answers.txt", "--add", "one.txt"],
        "`gone` holds no index of answers": ["run", "--index", "gone", "--add", "one.txt"],
        "`--add` and `--delete` both have the answer 'a'": ["run", *ask, "--add", "one.txt", "--delete", "one.txt"],
        f"has the answer {' ' + TARGETS[3]!r} already": ["run", *ask, "--add", "known.txt"],
        "The index has no answer 'a'": ["run", *ask, "--delete", "one.txt"],
        "No answer would be left": ["run", *ask, "--delete", "answers.txt"],
        "There is no file `no.txt` ": ["run", *ask, "--add", "no.txt"],
        "is not whole: it has": ["run", "--index", "cut", "--query", "q"],
    }  # fmt: skip
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    printed = ran(*(["answer", *arguments] for arguments in wrong.values()), directory=place)
    assert printed.count("status 2") == len(wrong)
    assert "imported:\n" in printed
    for message in wrong:
        assert message in printed, (message, printed)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
