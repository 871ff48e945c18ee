"""All arms train on the rows that every arm keeps, and the splits share no row."""

import json

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.row_keys import SharedRows, pair_keys, shared_rows
from llm_jepa.experiments.cells import Series, series_cells, spec_of
from llm_jepa.experiments.common_rows import check_rows, find_common_rows
from llm_jepa.experiments.spec_reading import read_experiment
from tests.experiments.conftest import SPLITS
from tests.tiny import PAIRS

SHORT = {"target_column": "{{ target[:1] }}", "max_length": 59}


def test_a_row_that_one_arm_would_drop_is_dropped_for_all(written):
    """With short targets, 16 predictor tokens make views longer than conversations, also as a point of a grid."""
    arms = {"lm_only": {"jepa_weight": 0}, "k16": {"num_predictor_tokens": 16}}
    experiment = read_experiment(written("long", arms=arms, settings=SHORT))
    common = find_common_rows(experiment)
    assert 0 == common.dropped["lm_only"] < common.dropped["k16"] == len(common.excluded) < len(PAIRS)
    costs = {arm: common.cost(experiment.resolved(arm)) for arm in arms}
    assert {cost.num_rows for cost in costs.values()} == {len(PAIRS) - len(common.excluded)}
    grids = {"lm_only": {"learning_rate": [1, 2]}, "jepa": {"learning_rate": [1], "num_predictor_tokens": [1, 16]}}
    path = written("long-grid", settings=SHORT, search={"split": "validation", "grids": grids})
    assert find_common_rows(read_experiment(path)).excluded == common.excluded


def test_a_row_that_is_too_long_is_refused_where_the_recipe_says_so(written):
    path = written(
        "refused",
        arms={"lm_only": {"jepa_weight": 0}, "k16": {"num_predictor_tokens": 16}},
        settings=SHORT | {"long_rows": "error"},
    )
    with pytest.raises(ValueError, match=r"the row has \d+ tokens; `max_length` is 59"):
        find_common_rows(read_experiment(path))


def test_a_shared_row_is_refused_or_counted(written, tmp_path):
    path = written("leak", settings={"dataset_train_split": "train+test[:3]"})
    with pytest.raises(
        ValueError, match=r"3 of the 8 rows of `test` are in `train\+test\[:3\]` too \(the first is row 0"
    ):
        find_common_rows(read_experiment(path))
    path = written("counted", settings={"dataset_train_split": "train+test[:3]"}, overlap="count")
    assert [one.num_shared for one in find_common_rows(read_experiment(path)).shared] == [3]


def test_a_row_that_the_recipe_excludes_is_not_shared(written, tmp_path):
    """Rows 8 to 10 of training are those of the test; the last is not excluded."""
    own = tmp_path / "own.json"
    own.write_text("[8, 9]")
    leak = {"dataset_train_split": "train+test[:3]", "excluded_rows": str(own)}
    common = find_common_rows(read_experiment(written("leak-excluded", settings=leak, overlap="count")))
    (shared,) = common.shared
    assert (shared.num_shared, shared.first, common.num_rows) == (1, 2, 9)
    own.write_text("[8, 9, 10]")
    assert find_common_rows(read_experiment(written("no-leak", settings=leak))).shared == []


@pytest.mark.parametrize("split", ["train[50%:]", "train[:100%]", "test[:100%]"])
def test_a_part_of_the_training_or_test_split_chooses_no_settings(written, split):
    search = {"split": split, "grid": {"learning_rate": [1e-3]}}
    with pytest.raises(ValueError, match=r"rows of `.*` are in `.*` too"):
        find_common_rows(read_experiment(written("dev-leak", search=search)))


def test_prompts_that_leave_no_room_are_refused_before_anything_trains(written):
    experiment = read_experiment(written("no_room", evaluation={"max_new_tokens": 500}))
    with pytest.raises(ValueError, match="with max_new_tokens=500 it exceeds the 512 positions of the model"):
        check_rows(experiment)


def test_conversations_that_end_alike_are_no_shared_rows():
    """What was said before tells them apart, a system prompt does not."""

    def conversation(question: str, *system: str) -> dict:
        texts = [(role, text) for role in ("system",) for text in system]
        texts += [("user", question), ("assistant", "Four."), ("user", "Thanks!"), ("assistant", "You are welcome!")]
        return {"messages": [{"role": role, "content": text} for role, text in texts]}

    rows = [conversation("Two and two?"), conversation("Three and one?"), conversation("Two  and two?", "Be brief.")]
    first, other, briefed = pair_keys(Dataset.from_list(rows), ColumnMapping())
    assert first == briefed != other


def test_shared_rows_by_hand():
    splits = {"train": [b"a", b"b", b"c"], "dev": [b"d", b"e"], "test": [b"c", b"d", b"a", b"f"]}
    assert shared_rows(splits) == [SharedRows("test", "train", 2, 4, 0), SharedRows("test", "dev", 1, 4, 1)]


@given(st.lists(st.binary(max_size=1)), st.lists(st.binary(max_size=1)))
def test_no_overlap_means_disjoint(train, test):
    assert (shared_rows({"train": train, "test": test}) == []) == set(train).isdisjoint(test)


def test_rows_that_the_recipe_excludes_stay_excluded_beside_those_that_an_arm_drops(written, tmp_path):
    own = tmp_path / "own.json"
    own.write_text("[0, 1]")
    arms = {"lm_only": {"jepa_weight": 0}, "k16": {"num_predictor_tokens": 16}}
    path = written("own-excluded", arms=arms, settings=SHORT | {"excluded_rows": str(own)})
    common = find_common_rows(read_experiment(path))
    common.write()
    assert common.num_rows == len(PAIRS) - 2
    assert common.excluded
    assert json.loads(common.path.read_text()) == sorted({0, 1, *common.excluded})


def test_other_arms_in_the_same_directory_change_no_row_of_a_cell(written, tmp_path):
    """With 16 predictor tokens 5 rows are too long, with 15 one fewer: each cell names a file with its own rows.

    At the longer `max_length` none is: nothing is named or written.
    """
    found = {}
    for name, number, max_length in (("k16", 16, 56), ("k15", 15, 56), ("kept", 15, 59)):
        arms = {"lm_only": {"jepa_weight": 0}, name: {"num_predictor_tokens": number}}
        settings = SHORT | {"max_length": max_length}
        path = written("side-by-side", arms=arms, settings=settings, output_dir=str(tmp_path / "output"))
        experiment = read_experiment(path)
        common = find_common_rows(experiment)
        common.write()
        cell = series_cells(experiment, Series(name), {})[1]
        found[name] = spec_of(experiment, common, cell).settings.get("excluded_rows"), common.excluded
    files = {str(path): json.loads(path.read_text()) for path in (tmp_path / "output").iterdir()}
    assert files == dict([found["k16"], found["k15"]])
    assert [len(rows) for _, rows in found.values()] == [5, 4, 0]
    assert found["kept"][0] is None


def _write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_copies_that_are_spaced_otherwise_are_shared_rows(written, tmp_path):
    copies = [{"source": f" {pair['source'].replace(' ', '  ')}", "target": f"{pair['target']}\n"} for pair in PAIRS]
    _write_rows(tmp_path / "train.jsonl", PAIRS)
    _write_rows(tmp_path / "test.jsonl", reversed(copies))
    with pytest.raises(ValueError, match="8 of the 8 rows of `test` are in `train` too"):
        find_common_rows(read_experiment(written("spaced", settings={"dataset_name": str(tmp_path)})))


def test_test_rows_with_other_choices_are_other_rows(written, tmp_path):
    """The sources and targets are the same."""
    settings = {"dataset_name": str(tmp_path), "task": "choice", "choices_column": "choices"}
    experiment = read_experiment(written("choices", settings=settings))
    _write_rows(tmp_path / "train.jsonl", [pair | {"choices": ["a"]} for pair in PAIRS])
    fingerprints = []
    for other in ("a", "b"):
        rows = [pair | {"choices": [pair["target"], other]} for pair in SPLITS["test"]]
        _write_rows(tmp_path / "test.jsonl", rows)
        fingerprints.append(find_common_rows(experiment).test_fingerprints["test"])
    assert len(set(fingerprints)) == 2
