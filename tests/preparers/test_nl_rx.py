"""data/nl_rx.py: the published grammar, drawn within its limits, the same for the same seed, in disjoint splits."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

from tests.preparers.scripts import load_script

SCRIPT = Path(__file__).parents[2] / "data" / "nl_rx.py"
nl_rx = load_script(SCRIPT)

NUM_TRAIN, NUM_TEST, SEED = 800, 200, 3
VOCABULARY = """
    lines with having not a the string dog truck ring lake number capital lower-case letter vowel character
    containing only starting ending words that contain don't have followed by before or and either at least once
    2 3 4 5 6 7 more times zero
"""

# Trees are written ("kind", operand, ...), a literal by its name, the count of n_or_more as a last operand.
GRAMMAR = [
    (("only", "number"), "containing only a number", "[0-9]"),
    (("only", "capital"), "containing only a capital letter", "[A-Z]"),
    (("only", "lower"), "containing only a lower-case letter", "[a-z]"),
    (("only", "letter"), "containing only a letter", "[A-Za-z]"),
    (("only", "vowel"), "containing only a vowel", "[AEIOUaeiou]"),
    (("only", "character"), "containing only a character", "."),
    (("only", "word"), "containing only the string 'dog'", "dog"),
    (("contains", "vowel"), "containing a vowel", ".*[AEIOUaeiou].*"),
    (("starts", "number"), "starting with a number", "([0-9])(.*)"),
    (("ends", "number"), "ending with a number", "(.*)([0-9])"),
    (("words", ("starts", "letter")), "with words with starting with a letter", r"\b([A-Za-z])(.*)\b"),
    (("followed", "word", "lower"), "with the string 'dog' followed by a lower-case letter", "dog.*[a-z].*"),
    (("before", "capital", "lower"), "with a capital letter before a lower-case letter", "([A-Z]).*([a-z]).*"),
    (("starts", ("or", "number", "character")), "starting with a number or a character", "(([0-9])|(.))(.*)"),
    (("contains", ("and", "number", "letter")), "containing a number and a letter", ".*([0-9])&([A-Za-z]).*"),
    (("not", "word"), "not having the string 'dog'", "~(dog)"),
    (
        ("contains", ("or3", "number", "word", "lower")),
        "containing either a number, the string 'dog', or a lower-case letter",
        ".*([0-9])|(dog)|([a-z]).*",
    ),
    (
        ("contains", ("and3", "number", "word", "lower")),
        "containing a number, the string 'dog', and a lower-case letter",
        ".*([0-9])&(dog)&([a-z]).*",
    ),
    (("at_least_once", "number"), "with a number at least once", "([0-9])+"),
    (("n_or_more", "word", 7), "with the string 'dog', 7 or more times", "(dog){7,}"),
    (("zero_or_more", "letter"), "with a letter, zero or more times", "([A-Za-z])*"),
]

SMOOTHED = [
    (("words", ("contains", "number")), "with words that contain a number", r"\b.*[0-9].*\b"),
    (("words", ("not", "number")), "with words that don't have a number", r"\b~([0-9])\b"),
    (("words", ("not", "word")), "with words that don't the string 'dog'", r"\b~(dog)\b"),
    (("not", ("words", ("only", "word"))), "not words that contain only the string 'dog'", r"~(\bdog\b)"),
    (("contains", ("not", "number")), "not containing a number", ".*~([0-9]).*"),
    (
        ("before", ("or3", "number", "lower", "word"), "vowel"),
        "having either a number, a lower-case letter, or the string 'dog' before a vowel",
        "(([0-9])|([a-z])|(dog)).*([AEIOUaeiou]).*",
    ),
    (
        ("before", ("and3", "number", "lower", "word"), "vowel"),
        "having a number, a lower-case letter, and the string 'dog' before a vowel",
        "(([0-9])&([a-z])&(dog)).*([AEIOUaeiou]).*",
    ),
]

NEGATED = [
    (("not", ("and", "number", "vowel")), "not having a number and not a vowel", "~(([0-9])&([AEIOUaeiou]))"),
    (
        ("not", ("and3", "number", "lower", "word")),
        "not having a number, not a lower-case letter, and not the string 'dog'",
        "~(([0-9])&([a-z])&(dog))",
    ),
    (
        ("not", ("or3", "number", "lower", "word")),
        "not having a number, a lower-case letter, or the string 'dog'",
        "~(([0-9])|([a-z])|(dog))",
    ),
    (
        ("not", ("before", ("and", "number", "lower"), "vowel")),
        "not having a number and not a lower-case letter before a vowel",
        "~((([0-9])&([a-z])).*([AEIOUaeiou]).*)",
    ),
    (
        ("and", ("not", "number"), ("starts", "lower")),  # the negation stands beside, not above
        "not having a number and starting with a lower-case letter",
        "(~([0-9]))&(([a-z])(.*))",
    ),
]


def tree(written):
    if isinstance(written, str):
        return nl_rx.Tree(written)
    kind, *operands = written
    repeats = operands.pop() if kind == "n_or_more" else 0
    return nl_rx.Tree(kind, tuple(map(tree, operands)), repeats)


def line(written):
    return nl_rx.Tree("line", (tree(written),))


def kinds_of(node):
    """The kinds of a tree below its root."""
    return [kind for operand in node.operands for kind in (operand.kind, *kinds_of(operand))]


def height(node):
    """The most nodes that stand above a literal of the tree, the root not counted."""
    return max((height(operand) + (operand.kind not in nl_rx.LITERALS) for operand in node.operands), default=0)


@pytest.fixture(scope="module")
def drawn():
    return nl_rx.draw_pairs(NUM_TRAIN + NUM_TEST, SEED)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("nl_rx") / "made" / "here"
    nl_rx.main(arguments(path))
    return path


@pytest.fixture(scope="module")
def trees():
    """By limits, the trees of 5,000 draws."""
    rng = random.Random(0)
    draws = {limits: [nl_rx.draw_tree(rng, limits) for _ in range(5_000)] for limits in nl_rx.LIMITS}
    return {limits: [drawn for drawn in some if drawn] for limits, some in draws.items()}


def arguments(path, num_train=NUM_TRAIN, num_test=NUM_TEST, seed=SEED):
    options = {"output_dir": path, "num_train": num_train, "num_test": num_test, "seed": seed}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def read_rows(path):
    return [json.loads(row) for row in path.read_text().splitlines()]


@pytest.mark.parametrize(("written", "words", "regex"), GRAMMAR + SMOOTHED + NEGATED)
def test_tree_is_rendered_as_published(written, words, regex):
    assert nl_rx.render(line(written)) == (f"lines {words}", regex)


def test_the_table_above_has_every_kind_of_node():
    assert {kind for written, _, _ in GRAMMAR for kind in kinds_of(line(written))} == nl_rx.KINDS.keys() - {"line"}


def test_words_are_filled_in_by_their_order_in_both_views():
    written = ("before", ("and", "word", "word"), ("followed", "word", "word"))
    prompt = (
        "lines with the string 'dog' and the string 'truck' before the string 'ring' followed by the string 'lake'"
    )
    assert nl_rx.render(line(written)) == (prompt, "((dog)&(truck)).*(ring.*lake.*).*")


def test_no_kind_comes_twice_but_word_and_only_one_modifier(trees):
    for kinds in (kinds_of(drawn) for some in trees.values() for drawn in some):
        others = [kind for kind in kinds if kind != "word"]
        assert len(others) == len(set(others)), kinds
        assert sum(kind in nl_rx.MODIFIERS for kind in kinds) <= 1


def test_word_comes_as_often_as_there_are_words_to_fill_in():
    assert nl_rx.may_join("word", ["before", "word", "word", "word"])
    assert not nl_rx.may_join("word", ["before", "word", "word", "word", "word"])


def test_junctions_at_the_top_join_no_literal_and_only_needs_a_not_above(trees):
    """ "lines with a number or a vowel" is no phrase of the set; "lines not containing only a number" is."""
    tops = [drawn.operands[0] for some in trees.values() for drawn in some]
    joined = {operand.kind for top in tops if top.kind in ("and", "or") for operand in top.operands}
    assert joined
    assert not joined & set(nl_rx.LITERALS)
    assert not {"and3", "or3"} & {top.kind for top in tops}
    assert {top.kind for top in tops if "only" in [operand.kind for operand in top.operands]} == {"not"}


@pytest.mark.parametrize("limits", nl_rx.LIMITS)
def test_depth_is_limited_and_the_limit_is_reached(trees, limits):
    assert {height(drawn) for drawn in trees[limits]} == set(range(1, limits.depth + 1))


def test_nodes_are_limited(trees):
    """With five nodes a two-operand top (3) and a function below it (2) leave nothing but a literal at its side."""
    tops = [drawn.operands[0] for drawn in trees[nl_rx.Limits(2, 5)]]
    firsts = [top.operands for top in tops if len(top.operands) == 2 and top.operands[0].kind not in nl_rx.LITERALS]
    assert len(firsts) > 100
    assert all(second.kind in nl_rx.LITERALS for _, second in firsts)


def test_after_two_compositions_only_literals_follow():
    """Below an "or" that stands below an "and", however wide the limits."""
    rng = random.Random(0)
    draws = [nl_rx.draw_operands(rng, "or", nl_rx.Limits(9, 99), used=["and", "or"]) for _ in range(200)]
    assert all(operand.kind in nl_rx.LITERALS for operands in draws if operands for operand in operands)


def test_word_weighs_four_of_ten_among_literals(trees):
    literals = [
        drawn.operands[0].operands[0].kind
        for some in trees.values()
        for drawn in some
        if height(drawn) == 1 and drawn.operands[0].kind == "only"
    ]
    assert len(literals) > 400
    assert literals.count("word") / len(literals) == pytest.approx(0.4, abs=0.06)
    assert literals.count("vowel") / len(literals) == pytest.approx(0.1, abs=0.04)


def test_every_prompt_is_a_finished_phrase_about_lines(drawn):
    words = {word for pair in drawn.pairs for word in re.findall(r"[\w-]+(?:'t)?", pair.source)}
    assert all(pair.source.startswith("lines ") for pair in drawn.pairs)
    assert words <= set(VOCABULARY.split())


def test_repeats_run_from_two_to_seven(drawn):
    counts = re.findall(r"{(\d+),}", "".join(pair.target for pair in drawn.pairs))
    assert set(counts) == set("234567")


def test_no_phrase_repeats_or_contradicts_itself(drawn):
    """Of the trees that the limits allow, these are left out."""
    clumsy = "letter before a letter|(before|containing|ending with) starting|starting with (ending|containing)"
    assert not [pair.source for pair in drawn.pairs if re.search(clumsy, pair.source)]


def test_every_regex_without_intersection_and_complement_compiles(drawn):
    plain = [pair.target for pair in drawn.pairs if not set("&~") & set(pair.target)]
    assert len(plain) > len(drawn.pairs) / 2
    for regex in plain:
        re.compile(regex)


def test_one_regex_a_prompt_and_one_prompt_a_regex(drawn):
    """Of an ambiguous prompt the first reading is kept; what is left out is counted."""
    assert len({pair.source for pair in drawn.pairs}) == len({pair.target for pair in drawn.pairs}) == 1_000
    assert drawn.second_readings > 0
    assert drawn.second_prompts > 0


def test_ambiguous_wordings_are_counted_whatever_their_literals():
    """ "lines not having x before y" has two regexes, "lines not having x" one."""
    before = [("not", ("before", "number", "vowel")), ("before", ("not", "lower"), "word")]
    alone = [("not", "number"), ("not", "vowel")]
    assert nl_rx.count_ambiguous([line(written) for written in before + alone]) == 2
    assert nl_rx.count_ambiguous([line(written) for written in before[:1] + alone]) == 0


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
    assert f"{drawn.second_readings} second readings of a\nprompt and {drawn.second_prompts} second prompts" in card
    assert f"For {drawn.ambiguous} of the {NUM_TRAIN + NUM_TEST} rows" in card
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


def test_another_seed_gives_other_rows(drawn):
    assert set(nl_rx.draw_pairs(200, SEED + 1).pairs) != set(drawn.pairs[:200])


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
