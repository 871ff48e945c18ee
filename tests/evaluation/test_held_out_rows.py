"""`max_rows` draws the same sample everywhere; a row knows its number and the row of the data that it comes from."""

import hashlib
import json

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.evaluation.held_out_rows import all_targets, load_rows, prompts_digest, sample_indices
from llm_jepa.evaluation.probe import held_out_view_ids
from llm_jepa.recipe import parse_recipe
from tests.tiny import PAIRS, tiny_tokenizer

SETTINGS = "model_name_or_path: m\noutput_dir: out\nbf16: false\nuse_cpu: true\n"


@pytest.fixture
def recipe(tmp_path):
    """A recipe on a test split of eight pairs; nothing needs its model."""
    Dataset.from_list(PAIRS).to_json(tmp_path / "data" / "test.jsonl")
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{SETTINGS}dataset_name: {tmp_path / 'data'}\nsource_column: source\ntarget_column: target\n")
    return path


@given(st.integers(0, 200), st.integers(1, 250))
def test_the_sample_is_the_rows_of_the_smallest_hashes(num_rows, max_rows):
    by_hash = sorted(range(num_rows), key=lambda row: hashlib.sha256(f"0:{row}".encode()).hexdigest())
    assert sample_indices(num_rows, max_rows) == sorted(by_hash[:max_rows])


def test_a_smaller_sample_is_a_part_of_a_larger_one():
    assert sample_indices(8, 2) == [4, 7]
    assert sample_indices(8, 4) == [2, 3, 4, 7]
    assert {*sample_indices(1000, 30)} < {*sample_indices(1000, 100)}


def test_a_digest_of_prompts_is_of_what_shapes_them(recipe):
    """Not of the golds; the template counts, since it renders the messages."""
    variants = [
        [],
        ["--system_prompt", "Answer in French."],
        ["--chat_template_kwargs", '{"enable_thinking": true}'],
        ["--source_column", "{{ source }}!"],
    ]
    loaded = [load_rows(parse_recipe([str(recipe), *options]), tiny_tokenizer()) for options in variants]
    digests = {prompts_digest(tiny_tokenizer(), rows) for rows in loaded}
    assert len(digests) == len(variants)
    assert prompts_digest(tiny_tokenizer("{{ messages }}"), loaded[0]) not in digests
    other_golds = load_rows(parse_recipe([str(recipe), "--target_column", "{{ target }}!"]), tiny_tokenizer())
    assert prompts_digest(tiny_tokenizer(), other_golds) in digests


def test_a_sample_keeps_the_order_and_the_numbers_of_its_rows(recipe):
    """It does not depend on the run's seed, and the probe looks at the same rows."""
    rows = load_rows(parse_recipe([str(recipe), "--system_prompt", "Write a regex."]), tiny_tokenizer(), max_rows=2)
    assert [row.row_index for row in rows] == [row.cluster for row in rows] == [4, 7]
    assert [row.source for row in rows] == [PAIRS[4]["source"], PAIRS[7]["source"]]
    assert rows[1].prompt == [
        {"role": "system", "content": "Write a regex."},
        {"role": "user", "content": PAIRS[7]["source"]},
    ]
    other_seed = parse_recipe([str(recipe), "--seed", "7"])
    assert [row.row_index for row in load_rows(other_seed, tiny_tokenizer(), max_rows=2)] == [4, 7]
    assert len(load_rows(other_seed, tiny_tokenizer(), max_rows=100)) == len(PAIRS)
    every_source, _ = held_out_view_ids(other_seed, tiny_tokenizer(), None)
    sources, _ = held_out_view_ids(other_seed, tiny_tokenizer(), 4)
    assert sources == [every_source[i] for i in (2, 3, 4, 7)]


def test_a_wrong_row_of_a_sample_is_named_by_its_number_in_the_data(recipe):
    rows = [dict(pair) for pair in PAIRS]
    rows[7]["target"] = " "
    Dataset.from_list(rows).to_json(recipe.parent / "data" / "test.jsonl")
    with pytest.raises(ValueError, match="Row 7: the target is empty"):
        load_rows(parse_recipe([str(recipe)]), tiny_tokenizer(), max_rows=2)


@pytest.mark.parametrize("max_rows", [None, 4])
def test_a_wrong_row_of_a_slice_is_named_by_the_line_of_its_file(tmp_path, max_rows):
    """The file begins with a blank line, the slice with row 2; of its 6 rows a sample of 4 takes 0, 2, 3 and 4."""
    rows = [json.dumps(pair) for pair in PAIRS]
    rows[6] = json.dumps({**PAIRS[6], "target": " "})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + "".join(f"{row}\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(f"{SETTINGS}dataset_name: {path}\ndataset_test_split: 'train[2:]'\n")
    columns = ["--source_column", "source", "--target_column", "target"]
    recipe = parse_recipe([str(tmp_path / "recipe.yaml"), *columns])
    for load in (load_rows, held_out_view_ids):
        with pytest.raises(ValueError, match=r"rows\.jsonl`, line 8: the target is empty\.$"):
            load(recipe, tiny_tokenizer(), max_rows)
    expanded = parse_recipe([str(tmp_path / "recipe.yaml"), "--view_columns", "source", "target"])
    with pytest.raises(ValueError, match=r"rows\.jsonl`, line 8: the view 'target' is empty"):
        load_rows(expanded, tiny_tokenizer(), max_rows)


def test_of_a_stream_the_first_rows_are_taken(recipe):
    streamed = parse_recipe([str(recipe), "--dataset_streaming", "true"])
    rows = load_rows(streamed, tiny_tokenizer(), max_rows=3)
    assert [row.source for row in rows] == [pair["source"] for pair in PAIRS[:3]]
    assert [row.row_index for row in rows] == [0, 1, 2]
    assert all_targets(streamed, rows) == [pair["target"] for pair in PAIRS[:3]]


def test_targets_are_those_of_the_whole_split(recipe):
    assert all_targets(parse_recipe([str(recipe)]), []) == [pair["target"] for pair in PAIRS]


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_turns_of_one_conversation_are_one_cluster(tmp_path, streaming):
    """Three conversations with one, two and one answers."""
    ask = {"role": "user", "content": "letters"}, {"role": "assistant", "content": "[a-z]"}
    Dataset.from_list([{"messages": [*ask] * times} for times in (1, 2, 1)]).to_json(tmp_path / "test.jsonl")
    (tmp_path / "recipe.yaml").write_text(f"{SETTINGS}dataset_name: {tmp_path}\ntarget_turn: all\n")
    recipe = parse_recipe([str(tmp_path / "recipe.yaml"), "--dataset_streaming", streaming])
    rows = load_rows(recipe, tiny_tokenizer())
    assert [(row.row_index, row.cluster) for row in rows] == [(0, 0), (1, 1), (2, 1), (3, 2)]
    assert [len(row.prompt) for row in rows] == [1, 1, 3, 1]
