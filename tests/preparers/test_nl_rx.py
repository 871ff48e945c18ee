"""data/nl_rx.py: disjoint splits and a true card, the same for the same seed, and no other data overwritten."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

from llm_jepa.preparers.nl_rx_grammar import draw_pairs
from tests.preparers.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "data" / "nl_rx.py"
nl_rx = load_script(SCRIPT)

NUM_TRAIN, NUM_TEST, SEED = 800, 200, 3


@pytest.fixture(scope="module")
def drawn():
    return draw_pairs(NUM_TRAIN + NUM_TEST, SEED)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("nl_rx") / "made" / "here"
    nl_rx.main(arguments(path))
    return path


def arguments(path, num_train=NUM_TRAIN, num_test=NUM_TEST, seed=SEED):
    options = {"output_dir": path, "num_train": num_train, "num_test": num_test, "seed": seed}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def read_rows(path):
    return [json.loads(row) for row in path.read_text().splitlines()]


def test_splits_have_the_rows_asked_for_and_share_neither_prompt_nor_regex(output_dir):
    train, test = read_rows(output_dir / "train.jsonl"), read_rows(output_dir / "test.jsonl")
    assert (len(train), len(test)) == (NUM_TRAIN, NUM_TEST)
    for column in ("source", "target"):
        assert not {row[column] for row in train} & {row[column] for row in test}
    assert all(list(row) == ["source", "target"] for row in train + test)


def test_rows_are_shuffled_before_they_are_split(output_dir, drawn):
    """Common phrases are drawn first; the test split must not be the rare rest."""
    order = {pair.source: position for position, pair in enumerate(drawn.pairs)}
    positions = [order[row["source"]] for row in read_rows(output_dir / "test.jsonl")]
    assert sum(positions) / NUM_TEST == pytest.approx((NUM_TRAIN + NUM_TEST) / 2, abs=60)


def test_card_states_true_counts_and_checksums(output_dir, drawn):
    card = (output_dir / "README.md").read_text()
    for name, rows in (("train.jsonl", NUM_TRAIN), ("test.jsonl", NUM_TEST)):
        sha256 = hashlib.sha256((output_dir / name).read_bytes()).hexdigest()
        assert f"| {name} | {rows} | {sha256} |" in card
    assert f"--num_train {NUM_TRAIN} --num_test {NUM_TEST} --seed {SEED}" in card
    left_out = f"{drawn.repeated_prompts} pairs with a repeated\nprompt and {drawn.repeated_regexes} pairs with"
    assert f"{left_out} a repeated regex were left out" in card
    assert f"The wording of {drawn.num_ambiguous} of the {NUM_TRAIN + NUM_TEST} rows" in card
    assert "arXiv 1608.03000" in card


def test_card_makes_the_directory_loadable(output_dir, tmp_path):
    splits = load_dataset(str(output_dir), cache_dir=str(tmp_path))
    assert {name: split.num_rows for name, split in splits.items()} == {"train": NUM_TRAIN, "test": NUM_TEST}
    assert splits["train"].column_names == ["source", "target"]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_files_depend_on_the_seed_alone(output_dir, tmp_path, hash_seed):
    """Another process with another hash seed writes the same bytes and prints two lines."""
    run = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments(tmp_path / "again")],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    for path in output_dir.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert len(run.stdout.splitlines()) == 2


def test_seed_0_stays_what_it_is():
    """Results measured on a seed's rows hold only as long as the seed gives these rows."""
    files, _ = nl_rx.make_files(90, 10, seed=0)
    rows = (files["train.jsonl"] + files["test.jsonl"]).encode()
    assert hashlib.sha256(rows).hexdigest() == "a57ece4f335aa3e67e155ee70f1722b4604633a1ddbcbdb2f06df589a67c250c"


def test_a_run_is_repeated_and_completed_in_place(tmp_path):
    nl_rx.main(arguments(tmp_path, 20, 5))
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "test.jsonl").unlink()
    nl_rx.main(arguments(tmp_path, 20, 5))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("train.jsonl", "files with other contents than this run wrote"),
        ("notes.txt", "files that this run does not write"),
        (".hidden", "files that this run does not write"),
    ],
)
def test_other_data_is_not_overwritten(tmp_path, capsys, name, what):
    (tmp_path / name).write_text("mine\n")
    with pytest.raises(SystemExit):
        nl_rx.main(arguments(tmp_path, 20, 5))
    assert f"holds {what}: {name}." in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine\n"]


def test_a_file_in_the_directorys_place_is_an_error(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("mine\n")
    with pytest.raises(SystemExit):
        nl_rx.main(arguments(path, 20, 5))
    assert "is a file; name a directory" in capsys.readouterr().err
    assert path.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"num_train": 0}, "num_train 0 and num_test 200 must both be at least 1"),
        ({"num_test": -1}, "num_train 800 and num_test -1 must both be at least 1"),
        ({"num_train": 19_801}, "num_train + num_test is 20001; at most 20000 distinct pairs are drawn"),
        ({"seed": -1}, "seed -1 must be 0 or more"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, capsys, counts, message):
    with pytest.raises(SystemExit):
        nl_rx.main(arguments(tmp_path / "none", **counts))
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
