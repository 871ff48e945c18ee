"""`shuffle_pairs`: every row has the target view of another row; all else stays its own."""

from collections import Counter

import pytest
from datasets import Dataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.data.partners import shuffled_partners
from llm_jepa.recipe import build_recipe
from tests.data.preparing import CHAT, LONG, TOKENISED, learned, new_trainer
from tests.tiny import PAIRS, tiny_tokenizer

SHUFFLED = {"shuffle_pairs": True}
OWN_COLUMNS = ("input_ids", "labels", "source_ids", "source_start", "row_index")
TARGET_COLUMNS = ("target_ids", "target_start")


@given(num_rows=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_no_row_is_its_own_partner_and_no_two_share_one(num_rows, seed):
    partners = shuffled_partners(num_rows, seed)
    assert sorted(partners) == list(range(num_rows))
    assert all(partner != row for row, partner in enumerate(partners))
    assert partners == shuffled_partners(num_rows, seed)


def test_two_rows_swap_and_three_go_round():
    assert shuffled_partners(2, 0) == [1, 0]
    assert {tuple(shuffled_partners(3, seed)) for seed in range(50)} == {(1, 2, 0), (2, 0, 1)}


def test_every_partner_is_as_likely_as_another():
    """Row 0 of four: each of the other three within 4 standard deviations of a third of 900 seeds."""
    counts = Counter(shuffled_partners(4, seed)[0] for seed in range(900))
    assert counts.keys() == {1, 2, 3}
    assert all(abs(count - 300) < 4 * (900 * 1 / 3 * 2 / 3) ** 0.5 for count in counts.values())


def test_a_partner_tells_nothing_of_the_rows_own_target():
    """2,000 rows of two classes: the partner has the row's class in half of them, within 5 standard deviations. Twice
    a hypergeometric count of variance 125 has 500. A partner that always had the other class would tell the class."""
    partners = shuffled_partners(2000, seed=0)
    equal = sum(row % 2 == partner % 2 for row, partner in enumerate(partners))
    assert abs(equal - 1000) < 5 * 500**0.5


def test_one_row_is_refused(prepare):
    with pytest.raises(ValueError, match="gives each row the target of another row; there is 1 row"):
        shuffled_partners(1, 0)
    with pytest.raises(ValueError, match="there is 1 row"):
        prepare(PAIRS[:1], **SHUFFLED)


FORMS = {
    "alone": (PAIRS, {}),
    "prefix": (PAIRS, {"jepa_source_view": "prefix"}),
    "target to source": (PAIRS, {"jepa_source_view": "prefix", "jepa_direction": "target_to_source"}),
    "messages": ([{"messages": CHAT[:2]}, {"messages": CHAT[2:]}], {}),
    "tokenised": ([TOKENISED, TOKENISED | {"target_ids": [9, 9, 9]}], {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_row_keeps_all_but_its_target_view_which_is_that_of_its_partner(form, prepare):
    rows, options = FORMS[form]
    plain, shuffled = prepare(rows, **options), prepare(rows, **options, **SHUFFLED)
    for name in OWN_COLUMNS:
        assert shuffled[name][:] == plain[name][:], name
    for row in shuffled:
        partner = plain[row["partner_index"]]
        assert row["partner_index"] != row["row_index"]
        assert {name: row[name] for name in TARGET_COLUMNS} == {name: partner[name] for name in TARGET_COLUMNS}
    assert sorted(shuffled["target_ids"][:]) == sorted(plain["target_ids"][:])


def test_partners_are_drawn_from_the_rows_that_are_kept(prepare):
    """Those longer than `max_length` are neither rows nor partners; labels stay the row's own."""
    plain, shuffled = (prepare(LONG, max_length=80, **options) for options in ({}, SHUFFLED))
    assert shuffled["row_index"][:] == plain["row_index"][:] == [0, 2, 4]
    assert sorted(shuffled["partner_index"][:]) == [0, 2, 4]
    assert [learned(row) for row in shuffled] == [learned(row) for row in plain]


def test_the_seed_draws_the_partners_and_nothing_else_does(prepare):
    """The learning rate does not, nor the number of processes that prepare, nor an order of rows."""
    partners = prepare(PAIRS, **SHUFFLED)["partner_index"][:]
    for options in ({"learning_rate": 0.5}, {"dataset_num_proc": 2}, {"jepa_target": "stop_gradient"}):
        assert prepare(PAIRS, **SHUFFLED, **options)["partner_index"][:] == partners
    assert prepare(PAIRS, **SHUFFLED, seed=7)["partner_index"][:] != partners


def test_the_lm_only_arm_and_rows_that_have_partners_stay_as_they_are(prepare):
    """TRL's `evaluate` prepares a dict of data sets, and then each of them again."""
    assert prepare(PAIRS, **SHUFFLED, jepa_weight=0.0).to_list() == prepare(PAIRS, jepa_weight=0.0).to_list()
    shuffled = prepare(PAIRS, **SHUFFLED)
    assert prepare(shuffled, **SHUFFLED).to_list() == shuffled.to_list()
    without = prepare(PAIRS)
    assert prepare(without, **SHUFFLED).to_list() == shuffled.to_list()


def test_a_stream_is_refused(prepare, tmp_path):
    stream = Dataset.from_list(PAIRS).to_iterable_dataset()
    with pytest.raises(ValueError, match="a stream does not know"):
        prepare(stream, **SHUFFLED)
    settings = {"model_name_or_path": "m", "dataset_name": "d", "output_dir": "o", "dataset_streaming": True}
    with pytest.raises(ValueError, match="a stream does not know"):
        build_recipe(tmp_path / "recipe.yaml", settings | SHUFFLED)
    build_recipe(tmp_path / "recipe.yaml", settings | SHUFFLED | {"jepa_weight": 0.0})


def test_the_partners_are_read_from_the_cache_at_the_next_start(prepare, tmp_path, monkeypatch):
    Dataset.from_list(PAIRS).to_parquet(tmp_path / "rows.parquet")

    def prepared(**options):
        rows = load_dataset("parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=tmp_path)
        return prepare(rows, **SHUFFLED, **options)

    first = prepared()
    drawn = []
    monkeypatch.setattr("llm_jepa.data.partners.shuffled_partners", lambda *args: drawn.append(args))
    assert prepared().to_list() == first.to_list()
    assert drawn == []
    with pytest.raises(TypeError):
        prepared(seed=7)
    assert len(drawn) == 1


def test_the_arm_trains_on_as_many_tokens(tmp_path):
    """Of the whole data in one batch, laid out as the trainer does."""
    counts = []
    for options in ({}, SHUFFLED):
        trainer = new_trainer(PAIRS, source_column="source", target_column="target", **options)
        laid_out = trainer.data_collator([trainer.train_dataset[i] for i in range(len(PAIRS))])["laid_out"]
        counts.append(laid_out.batch.num_tokens)
        text = tiny_tokenizer().decode(trainer.train_dataset[0]["target_ids"])
        assert (PAIRS[0]["target"] in text) == (not options)
    assert counts[0] == counts[1]
