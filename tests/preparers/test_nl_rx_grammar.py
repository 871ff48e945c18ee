"""The published grammar of NL-RX: rendered as published, drawn within its limits, one regex a prompt."""

import random
import re

import pytest

from llm_jepa.preparers.nl_rx_grammar import (
    LIMITS,
    LITERALS,
    MODIFIERS,
    NODE_KINDS,
    Limits,
    Tree,
    count_ambiguous,
    draw_operands,
    draw_pairs,
    draw_tree,
    may_add,
    render,
)

NUM_PAIRS, SEED = 1_000, 3
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
        return Tree(written)
    kind, *operands = written
    repeats = operands.pop() if kind == "n_or_more" else 0
    return Tree(kind, tuple(map(tree, operands)), repeats)


def line(written):
    return Tree("line", (tree(written),))


def kinds_of(node):
    """The kinds of a tree below its root."""
    return [kind for operand in node.operands for kind in (operand.kind, *kinds_of(operand))]


def height(node):
    """The most nodes that stand above a literal of the tree, the root not counted."""
    return max((height(operand) + (operand.kind not in LITERALS) for operand in node.operands), default=0)


@pytest.fixture(scope="module")
def drawn():
    return draw_pairs(NUM_PAIRS, SEED)


@pytest.fixture(scope="module")
def trees():
    """By limits, the trees of 5,000 draws."""
    rng = random.Random(0)
    draws = {limits: [draw_tree(rng, limits) for _ in range(5_000)] for limits in LIMITS}
    return {limits: [drawn for drawn in some if drawn] for limits, some in draws.items()}


@pytest.mark.parametrize(("written", "words", "regex"), GRAMMAR + SMOOTHED + NEGATED)
def test_tree_is_rendered_as_published(written, words, regex):
    assert render(line(written)) == (f"lines {words}", regex)


def test_the_table_above_has_every_kind_of_node():
    assert {kind for written, _, _ in GRAMMAR for kind in kinds_of(line(written))} == NODE_KINDS.keys() - {"line"}


def test_words_are_filled_in_by_their_order_in_both_views():
    written = ("before", ("and", "word", "word"), ("followed", "word", "word"))
    prompt = (
        "lines with the string 'dog' and the string 'truck' before the string 'ring' followed by the string 'lake'"
    )
    assert render(line(written)) == (prompt, "((dog)&(truck)).*(ring.*lake.*).*")


def test_no_kind_comes_twice_but_word_and_only_one_modifier(trees):
    for kinds in (kinds_of(drawn) for some in trees.values() for drawn in some):
        others = [kind for kind in kinds if kind != "word"]
        assert len(others) == len(set(others)), kinds
        assert sum(kind in MODIFIERS for kind in kinds) <= 1


def test_word_comes_as_often_as_there_are_words_to_fill_in():
    assert may_add("word", ["before", "word", "word", "word"])
    assert not may_add("word", ["before", "word", "word", "word", "word"])


def test_junctions_at_the_top_join_no_literal_and_only_needs_a_not_above(trees):
    """ "lines with a number or a vowel" is no phrase of the set; "lines not containing only a number" is."""
    tops = [drawn.operands[0] for some in trees.values() for drawn in some]
    joined = {operand.kind for top in tops if top.kind in ("and", "or") for operand in top.operands}
    assert joined
    assert not joined & set(LITERALS)
    assert not {"and3", "or3"} & {top.kind for top in tops}
    assert {top.kind for top in tops if "only" in [operand.kind for operand in top.operands]} == {"not"}


@pytest.mark.parametrize("limits", LIMITS)
def test_depth_is_limited_and_the_limit_is_reached(trees, limits):
    assert {height(drawn) for drawn in trees[limits]} == set(range(1, limits.depth + 1))


def test_nodes_are_limited(trees):
    """With five nodes a two-operand top (3) and a function below it (2) leave nothing but a literal at its side."""
    tops = [drawn.operands[0] for drawn in trees[Limits(2, 5)]]
    firsts = [top.operands for top in tops if len(top.operands) == 2 and top.operands[0].kind not in LITERALS]
    assert len(firsts) > 100
    assert all(second.kind in LITERALS for _, second in firsts)


def test_after_two_compositions_only_literals_follow():
    """Below an "or" that stands below an "and", however wide the limits."""
    rng = random.Random(0)
    draws = [draw_operands(rng, "or", Limits(9, 99), used=["and", "or"]) for _ in range(200)]
    assert all(operand.kind in LITERALS for operands in draws if operands for operand in operands)


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
    assert len({pair.source for pair in drawn.pairs}) == len({pair.target for pair in drawn.pairs}) == NUM_PAIRS
    assert drawn.repeated_prompts > 0
    assert drawn.repeated_regexes > 0


def test_ambiguous_wordings_are_counted_whatever_their_literals():
    """ "lines not having x before y" has two regexes, "lines not having x" one."""
    before = [("not", ("before", "number", "vowel")), ("before", ("not", "lower"), "word")]
    alone = [("not", "number"), ("not", "vowel")]
    assert count_ambiguous([line(written) for written in before + alone]) == 2
    assert count_ambiguous([line(written) for written in before[:1] + alone]) == 0


def test_another_seed_gives_other_rows(drawn):
    assert set(draw_pairs(200, SEED + 1).pairs) != set(drawn.pairs[:200])
