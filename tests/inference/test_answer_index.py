"""An index finds the nearest answers, survives being written, and is refused where it does not belong."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from llm_jepa.inference import AnswerIndex
from llm_jepa.inference.candidates import answers_of_column, read_answers
from tests.inference.latent_runs import encoder_of, new_trainer
from tests.tiny import PAIRS

TARGETS = [pair["target"] for pair in PAIRS]
SOURCES = [pair["source"] for pair in PAIRS]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    found = encoder_of(new_trainer(tmp_path_factory.mktemp("index")))
    found.checkpoint, found.predictor = "weights", "predictor"
    return found


@pytest.fixture(scope="module")
def index(encoder):
    return AnswerIndex.build(encoder, TARGETS, batch_size=3)


def index_of(embedding_ND, answers=None) -> AnswerIndex:
    unit_ND = np.asarray(embedding_ND, dtype=np.float32)
    unit_ND = unit_ND / np.linalg.norm(unit_ND, axis=1, keepdims=True)
    return AnswerIndex(answers or [f"answer {i}" for i in range(len(unit_ND))], unit_ND, "weights", "predictor")


def test_hits_are_the_answers_of_highest_cosine(encoder, index):
    source_ND, target_ND = encoder.encode_sources(SOURCES), encoder.encode_targets(TARGETS)
    cosine_NN = torch.cosine_similarity(source_ND[:, None], target_ND[None], dim=-1).numpy()
    for cosine_N, hits in zip(cosine_NN, index.ask(encoder, SOURCES, 3), strict=True):
        expected = np.argsort(-cosine_N)[:3]
        assert [hit.answer for hit in hits] == [TARGETS[i] for i in expected]
        assert [hit.score for hit in hits] == pytest.approx(cosine_N[expected], abs=1e-5)
    assert len(index.ask(encoder, SOURCES[:1], 99)[0]) == len(TARGETS)


def test_a_query_is_one_forward(encoder, index):
    calls = []
    handle = encoder.model.model.register_forward_pre_hook(lambda module, args: calls.append(1))
    index.ask(encoder, SOURCES[:1])
    handle.remove()
    assert len(calls) == 1


def test_many_queries_are_compared_in_parts(index, monkeypatch):
    query_QD = np.random.default_rng(0).normal(size=(7, 32)).astype(np.float32)
    whole = index.search(query_QD, 2)
    monkeypatch.setattr("llm_jepa.inference.answer_index.MAX_SCORES", 3 * len(index))
    for part, hits in zip(index.search(query_QD, 2), whole, strict=True):
        assert [hit.answer for hit in part] == [hit.answer for hit in hits]


def test_ties_are_told_and_a_constant_embedding_warns(caplog):
    (hits,) = index_of([[1, 0], [0, 1], [1, 0]]).search(np.array([[2.0, 0.0]]), 3)
    assert [(hit.answer, hit.num_equal) for hit in hits] == [("answer 0", 1), ("answer 2", 1), ("answer 1", 0)]
    assert not caplog.records
    index_of([[1, 1], [2, 2], [3, 3]])
    assert "All 3 answers have the same embedding" in caplog.text


def test_a_saved_index_is_mapped_into_memory_and_gives_the_same_hits(encoder, index, tmp_path):
    index.save(tmp_path / "index")
    loaded = AnswerIndex.load(tmp_path / "index")
    assert isinstance(loaded.embedding_ND, np.memmap)
    assert (loaded.answers, loaded.facts) == (index.answers, index.facts)
    assert loaded.ask(encoder, SOURCES) == index.ask(encoder, SOURCES)


def test_answers_with_line_ends_and_other_letters_survive(tmp_path):
    answers = ["a\nb", "ß\u2028c", '"d"']
    index_of(np.eye(3), answers).save(tmp_path / "index")
    assert AnswerIndex.load(tmp_path / "index").answers == answers


def test_answers_are_added_and_deleted(encoder, index, tmp_path):
    """In the saved index too, which holds one set of files."""
    few = AnswerIndex.build(encoder, TARGETS[:5])
    few.save(tmp_path / "index")
    grown = AnswerIndex.load(tmp_path / "index").add(encoder, TARGETS[5:])
    np.testing.assert_allclose(grown.embedding_ND, index.embedding_ND, atol=1e-5)
    grown.delete(TARGETS[1:3]).save(tmp_path / "index")
    assert AnswerIndex.load(tmp_path / "index").answers == [TARGETS[0], *TARGETS[3:]]
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "answers-2.jsonl", "embeddings-2.npy", "index.json",
    ]  # fmt: skip


def test_a_killed_save_leaves_the_index_as_it_was_and_the_next_one_cleans_up(index, tmp_path, monkeypatch):
    index.save(tmp_path / "index")

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("llm_jepa.inference.index_files.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            index.delete(TARGETS[:1]).save(tmp_path / "index")
    assert AnswerIndex.load(tmp_path / "index").answers == TARGETS
    assert (tmp_path / "index" / "answers-2.jsonl").is_file()
    index.save(tmp_path / "index")
    assert len([*(tmp_path / "index").iterdir()]) == 3


@pytest.mark.parametrize(("call", "message"), [
    (lambda index, encoder: index.add(encoder, [" (dog)(.*) "]), "has the answer ' (dog)(.*) ' already. Leave it"),
    (lambda index, encoder: index.add(encoder, ["new", "new "]), "answers 0 and 1 are the same, 'new'"),
    (lambda index, encoder: index.add(encoder, [" "]), "answer 0 is empty"),
    (lambda index, encoder: index.delete(["no such"]), "The index has no answer 'no such'"),
    (lambda index, encoder: index.delete([f" {target}" for target in TARGETS]), "No answer would be left"),
    (lambda index, encoder: index.search(np.ones((1, 32)), 0), "`k` is 0"),
    (lambda index, encoder: index.search(np.ones((1, 8)), 1), "The queries have width 8; the index has 32"),
    (lambda index, encoder: AnswerIndex.build(encoder, []), "there are no answers"),
    (lambda index, encoder: AnswerIndex.build(encoder, ["a", "b", " a"]), "answers 0 and 2 are the same"),
    (lambda index, encoder: index.ask(encoder, ["word " * 600]), "more than the 512 positions"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused(index, encoder, call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)").replace("*", r"\*")):
        call(index, encoder)


@pytest.mark.parametrize(("change", "message"), [
    ({"checkpoint": "other"}, "embeddings of another checkpoint"),
    ({"predictor": "other"}, "embeddings by another latent predictor"),
    ({"width": 64}, "embeddings of width 64; the model has 32"),
])  # fmt: skip
def test_an_index_of_another_model_is_refused(index, encoder, change, message):
    other = AnswerIndex(index.answers, index.embedding_ND, "weights", "predictor")
    other.facts = dataclasses.replace(other.facts, **change)
    with pytest.raises(ValueError, match=message):
        other.ask(encoder, SOURCES[:1])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(("damage", "message"), [
    (lambda place: truncate(place / "embeddings-1.npy"), "embeddings-1.npy` is not whole: it has"),
    (lambda place: truncate(place / "answers-1.jsonl"), "answers-1.jsonl` is not whole"),
    (lambda place: (place / "embeddings-1.npy").unlink(), "embeddings-1.npy` is missing"),
    (lambda place: truncate(place / "index.json") or truncate(place / "index.json"), "index.json` cannot be read"),
    (lambda place: (place / "index.json").write_text('{"format": 9}'), "is no index of format 1"),
    (lambda place: (place / "index.json").unlink(), "holds no index of answers"),
])  # fmt: skip
def test_a_damaged_index_is_refused(index, tmp_path, damage, message):
    index.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        AnswerIndex.load(tmp_path)


def test_a_directory_with_other_files_is_left_alone(index, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"holds thesis.tex and no index"):
        index.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


class TestLargeIndex:
    """Above the limit of exact search, which is lowered here."""

    @pytest.fixture(autouse=True)
    def low_limit(self, monkeypatch):
        monkeypatch.setattr(AnswerIndex, "exact_answers", 100)

    def test_usearch_finds_what_exact_search_finds(self, tmp_path, monkeypatch):
        pytest.importorskip("usearch")
        generator = np.random.default_rng(0)
        large = index_of(generator.normal(size=(2_000, 16)))
        query_QD = generator.normal(size=(50, 16))
        large.save(tmp_path)
        assert (tmp_path / "neighbours-1.usearch").is_file()
        found = AnswerIndex.load(tmp_path).search(query_QD, 5)
        monkeypatch.setattr(AnswerIndex, "exact_answers", 10_000)
        expected = index_of(large.embedding_ND, large.answers).search(query_QD, 5)
        shared = [
            len({hit.answer for hit in one} & {hit.answer for hit in other}) / 5
            for one, other in zip(found, expected, strict=True)
        ]
        assert np.mean(shared) > 0.95
        assert found[0][0].score == pytest.approx(expected[0][0].score, abs=1e-6)

    @pytest.mark.parametrize("num_same", [20, 300])
    def test_ties_are_counted_beyond_the_candidates_that_usearch_gives(self, num_same):
        pytest.importorskip("usearch")
        generator = np.random.default_rng(0)
        same_D = generator.normal(size=16)
        large = index_of([*generator.normal(size=(1_000, 16)), *[same_D] * num_same])
        (hits,) = large.search(same_D[None], 3)
        assert [hit.num_equal for hit in hits] == [num_same - 1] * 3

    def test_without_usearch_it_is_said_before_any_answer_is_encoded(self, encoder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "usearch.index", None)
        with pytest.raises(ValueError, match=r"pip install 'llm-jepa\[index\]'"):
            AnswerIndex.build(encoder, [f"a{i}" for i in range(101)])
        with pytest.raises(ValueError, match=r"pip install 'llm-jepa\[index\]'"):
            index_of(np.random.default_rng(0).normal(size=(101, 4))).save(tmp_path / "index")
        assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("a\n\nb\n", "line 2: the answer is empty"),
    ("a\nb\na\n", "answers 1 and 3 are the same, 'a'"),
    ("", "is empty. Give a text file"),
])  # fmt: skip
def test_a_file_of_answers_with_empty_or_equal_lines_is_refused(tmp_path, text, message):
    (tmp_path / "answers.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_answers(tmp_path / "answers.txt")


def test_a_column_gives_each_answer_once(tmp_path):
    rows = [{"q": {"label": label}} for label in ("yes", "no", "yes", " no")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert answers_of_column(str(tmp_path / "rows.jsonl"), "q.label") == ["yes", "no"]
    (tmp_path / "empty.jsonl").write_text('{"a": "x"}\n{"a": " "}\n')
    with pytest.raises(ValueError, match="row 1: `a` is empty"):
        answers_of_column(str(tmp_path / "empty.jsonl"), "a")
