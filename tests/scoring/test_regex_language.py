r"""Regex equality against a slow matcher, Python's `re` and regexbench; any input stays within the limits."""

import functools
import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa.preparers.nl_rx_grammar import draw_pairs
from llm_jepa.scoring.regex_language import compare_languages, language_kind, regex_equivalent
from llm_jepa.scoring.regex_syntax import read_regex

WORDS = ["".join(letters) for length in range(5) for letters in itertools.product("ab-", repeat=length)]

# A regex as a tree of tuples: a set of characters, a boundary, or an operator with its operands.
leaves = st.sampled_from(
    [("set", "a"), ("set", "b"), ("set", "ab"), ("set", "-"), ("any",), ("boundary",), ("empty",)]
)
counts = st.sampled_from([(0, None), (1, None), (0, 1), (2, None), (2, 2), (1, 3), (0, 0)])
trees = st.recursive(
    leaves,
    lambda parts: st.one_of(
        st.tuples(st.sampled_from(["concatenation", "union", "intersection"]), parts, parts),
        st.tuples(st.just("complement"), parts),
        st.tuples(st.just("repeat"), parts, counts),
    ),
    max_leaves=6,
)
SIGNS = {"concatenation": "", "union": "|", "intersection": "&"}


def write(tree) -> str:
    kind, *operands = tree
    if kind == "set":
        return f"[{operands[0]}]"
    if kind in ("any", "boundary", "empty"):
        return {"any": ".", "boundary": r"\b", "empty": "()"}[kind]
    if kind == "complement":
        return f"~({write(operands[0])})"
    if kind == "repeat":
        low, high = operands[1]
        return f"({write(operands[0])}){{{low},{'' if high is None else high}}}"
    return f"({write(operands[0])}){SIGNS[kind]}({write(operands[1])})"


def matches(tree, word: str) -> bool:
    """By the definition of each operator on spans (first, end) of the word: the slow reference."""
    spans = {(first, end) for first in range(len(word) + 1) for end in range(first, len(word) + 1)}
    is_letter = [False, *(character.isalnum() for character in word), False]

    def join(some, others):
        return {(first, end) for first, middle in some for start, end in others if start == middle}

    def spans_of(tree):
        kind, *operands = tree
        if kind in ("set", "any"):
            return {(i, i + 1) for i in range(len(word)) if kind == "any" or word[i] in operands[0]}
        if kind == "empty":
            return {(i, i) for i in range(len(word) + 1)}
        if kind == "boundary":
            return {(i, i) for i in range(len(word) + 1) if is_letter[i] != is_letter[i + 1]}
        if kind == "complement":
            return spans - spans_of(operands[0])
        if kind == "repeat":
            low, high = operands[1]
            copy, power, total = spans_of(operands[0]), spans_of(("empty",)), set()
            for count in range(low + len(word) + 2 if high is None else high + 1):
                total |= power if count >= low else set()
                power = join(power, copy)
            return total
        operation = {"concatenation": join, "union": set.union, "intersection": set.intersection}[kind]
        return operation(*map(spans_of, operands))

    return (0, len(word)) in spans_of(tree)


def matches_regex(regex: str, word: str) -> bool:
    """Whether the regex matches the word, asked of the language of both together."""
    return language_kind(f"({re.escape(word)})&({regex})") == "other"


@settings(max_examples=300, deadline=None)
@given(first=trees, second=trees)
def test_verdicts_agree_with_a_slow_matcher_on_all_short_words(first, second):
    """Equal languages match the same words; of different ones, a shortest witness is told apart by the reference."""
    verdict, witness = compare_languages(write(first), write(second))
    told_apart = [word for word in WORDS if matches(first, word) != matches(second, word)]
    if verdict == "equal":
        assert told_apart == []
        assert witness is None
    else:
        assert verdict == "different"
        assert matches(first, witness) != matches(second, witness)
        assert all(len(witness) <= len(word) for word in told_apart)


@settings(max_examples=100, deadline=None)
@given(tree=trees)
def test_kinds_agree_with_a_slow_matcher(tree):
    matched = [matches(tree, word) for word in WORDS]
    kind = language_kind(write(tree))
    assert kind in (
        {"other"} if True in matched and False in matched else {"all" if all(matched) else "empty", "other"}
    )


@settings(max_examples=100, deadline=None)
@given(first=trees, second=trees)
def test_laws_of_boolean_algebra_hold(first, second):
    x, y = write(first), write(second)
    for left, right in [
        (f"~(({x})&({y}))", f"~({x})|~({y})"),
        (f"({x})&(({x})|({y}))", x),
        (f"({x})|~({x})", ".*"),
        (f"({x})({y})|({x})()", f"({x})(({y})|())"),
    ]:
        assert regex_equivalent(left, right) == "equal"
    assert regex_equivalent(x, y) == regex_equivalent(y, x) == regex_equivalent(f"~({x})", f"~({y})")


def draw_regexes(seed: int, num_regexes: int, max_length: int) -> list[str]:
    regexes = [pair.target for pair in draw_pairs(2000, seed).pairs if len(pair.target) <= max_length]
    return random.Random(seed).sample(regexes, num_regexes)  # common ones are drawn first


def test_words_of_generated_regexes_are_those_that_python_matches():
    """Python has no & and ~, the rest is the same in both, `\\b` included."""
    rng = random.Random(0)
    pieces = ["dog", "truck", "ring", "a", "e", "Z", "7", "-", " ", "_"]
    num_matched = 0
    for regex in draw_regexes(seed=5, num_regexes=120, max_length=40):
        if "&" in regex or "~" in regex:
            continue
        pattern = re.compile(regex, re.ASCII | re.DOTALL)
        for _ in range(6):
            word = "".join(rng.choices(pieces, k=rng.randrange(4)))
            assert matches_regex(regex, word) == bool(pattern.fullmatch(word)), (regex, word)
            num_matched += bool(pattern.fullmatch(word))
    assert num_matched > 50


REWRITES = [
    ("dog", "truck"), ("[A-Z]", "[A-Za-z]"), ("[a-z]", "[A-Z]"), ("[0-9]", "[^A-Z]"), (".", "[^a]"), ("(dog)", "dog"),
    ("[AEIOUaeiou]", "[aeiouAEIOU]"), ("[A-Za-z]", "([A-Z]|[a-z])"), ("(.*)", ".*"), (".*.*", ".*"), (".*", ".*.*"),
    ("&", "|"), (")|(", ")&("), ("~", ""), (r"\b", ""), (r"\b", r"\b\b"),
    (")*", ")+"), (")+", "){1,}"), ("{2,}", "{1,}"), (")", "|())"),
]  # fmt: skip


def rewrite_once(rng: random.Random, regex: str) -> str:
    old, new = rng.choice([pair for pair in REWRITES if pair[0] in regex])
    place = rng.choice([i for i in range(len(regex)) if regex.startswith(old, i)])
    return regex[:place] + new + regex[place + len(old) :]


def test_regexbench_gives_the_same_verdicts():
    """An independent implementation, on generated regexes with something rewritten in them."""
    regexbench = pytest.importorskip("regexbench")
    rng = random.Random(1)
    verdicts = []
    for regex in draw_regexes(seed=7, num_regexes=32, max_length=22):
        other = rewrite_once(rng, regex)
        theirs = regexbench.equivalent(regex, other, dialect=regexbench.Dialect.BRICS)
        ours = compare_languages(regex, other)
        assert (ours.verdict == "equal") == (theirs.verdict.value == "equivalent"), (regex, other)
        if theirs.witness is not None:
            assert len(ours.witness) == len(theirs.witness), (regex, other)
        verdicts.append(ours.verdict)
    assert min(verdicts.count("equal"), verdicts.count("different")) >= 8


def test_every_generated_regex_is_decided_and_some_are_trivial():
    kinds = [language_kind(regex) for regex in draw_regexes(seed=2, num_regexes=300, max_length=1000)]
    assert set(kinds) == {"empty", "all", "other"}
    assert kinds.count("empty") >= 15


@pytest.mark.parametrize(
    ("first", "second", "witness"),
    [
        ("[0-9]+", "[0-9][0-9]*", None),
        ("(dog){3,}", "dogdogdog(dog)*", None),
        (".*dog.*", "~(~(.*dog.*))", None),
        ("([0-9])&(dog)", "([a-z])&(truck)", None),  # two contradictions
        ("a|b&cd*", "a|(b&(c(d*)))", None),
        ("~a*", "(~a)*", None),
        ("~ab", "(~a)b", None),
        ("()", "a{0}", None),
        ("a+?", "a*", None),  # not a lazy a+
        (r"\bdog\b", "dog", None),
        (r"\b[a-z]\b", r"\b\b[a-z]", None),
        (r"a\bb", "~(.*)", None),
        (r"(\b|a){2}b", "a{0,2}b", None),  # empty copies first, where \b lets them
        (r"[\]\-a]", r"a|\-|\]", None),
        ("[-a]", "[a-]", None),
        ("[^a]|a", ".", None),
        (r"\~\&\\", r"[~][&][\\]", None),
        ("[[]", r"\[", None),
        (".", "[^\n]", "\n"),
        (".", "[^\U0001d4b3]", "\U0001d4b3"),
        ("a", "a ", "a"),
        ("dog", "Dog", "Dog"),
        ("(dog){3,}", "(dog){2,}", "dogdog"),
        (".*", ".+", ""),
        (r".*\bdog\b.*", ".*dog.*", "ddog"),
        (r"~(\b|.+).*", ".*", "a"),  # what starts with no edge of a word
    ],
)
def test_readings_worked_out_by_hand(first, second, witness):
    verdict = "equal" if witness is None else "different"
    assert regex_equivalent(first, second) == verdict
    assert compare_languages(first, second) == (verdict, witness)


@pytest.mark.parametrize(
    ("regex", "kind"),
    [("([0-9])&(dog)", "empty"), (r"\b", "empty"), ("(.)*", "all"), ("~([0-9]&a)", "all"), ("()", "other")],
)
def test_kinds_worked_out_by_hand(regex, kind):
    assert language_kind(regex) == kind


@pytest.mark.parametrize(
    ("regex", "where", "why"),
    [
        ("", "the end", "operand is missing"),
        ("a|", "the end", "operand is missing"),
        ("(a&)", "character 3", "operand is missing"),
        ("~", "the end", "operand is missing"),
        ("a|*", "character 2", "nothing before it to repeat"),
        ("~{2}", "character 1", "nothing before it to repeat"),
        ("a{x}", "character 1", "a count is"),
        ("a{1111111111}", "character 1", "nine digits"),
        ("a{3,2}", "character 1", "3 is more than 2"),
        ("a((b)", "character 1", "never closed"),
        ("ab)", "character 2", "no parenthesis is open"),
        ("a]", "character 1", "no bracket is open"),
        ("a[b", "character 1", "never closed"),
        ("[]", "character 0", "the set is empty"),
        ("[a-", "the end", "a character is missing"),
        ("[z-a]", "character 1", "ends before it begins"),
        ("a\\", "the end", "a character is missing"),
        (r"a\d", "character 1", "no escape of this dialect"),
        (r"[\b]", "character 1", "no escape of this dialect"),
        ("^a", "character 0", r"write \\\^ for the character"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_where_and_why(regex, where, why):
    for arguments in ((regex, "a"), ("a", regex)):
        with pytest.raises(ValueError, match=f"at {where}.*: .*{why}"):
            regex_equivalent(*arguments)


@pytest.mark.parametrize("regex", [None, 3, b"a", ["a"]])
def test_what_is_no_string_is_an_error(regex):
    with pytest.raises(ValueError, match=f"must be a string, not {type(regex).__name__}"):
        regex_equivalent("a", regex)


@given(regex=st.text(alphabet=r"ab01-,.*+?|&~()[]{}\^$", max_size=12))
def test_any_text_is_read_or_refused(regex):
    try:
        read_regex(regex)
    except ValueError as error:
        assert "cannot be read at" in str(error)  # noqa: PT017
    else:
        assert regex_equivalent(regex, f"({regex})") == "equal"


UNREADABLE = [
    "(" * 10_000,
    "a" + ")" * 10_000,
    "".join(random.Random(0).choices("ab.*+?(){}[]|&~^$-,012", k=100_000)),
    "\0" * 50_000 + "[" * 50_000,
]


@pytest.mark.parametrize("regex", UNREADABLE, ids=["open", "closed", "garbage", "brackets"])
def test_long_garbage_is_refused_with_a_short_error(regex):
    with pytest.raises(ValueError, match="cannot be read at") as error:
        regex_equivalent(regex, "a")
    assert len(str(error.value)) < 250


BLOW_UPS = {
    "repeats of repeats": ("(a{1000}){1000}", "(a{1000}){1001}"),
    "a large count": ("a{999999999}", "a{999999998}"),
    "exponential automaton": (".*a.{60}", ".*a.{60}|.*a.{60}b"),
    "stars": ("(((((a|b)*c)*.{9})*d)*e)*.{30}a.*&.*b.{40}", "~(.*)"),
    "nested groups with content": ("(a|b" * 10_000 + ")" * 10_000, "a"),
    "complement tower": ("~(.*a" * 2000 + "b" + ")" * 2000, "a"),
    "100 kB of one letter": ("a" * 100_000, "a" * 99_999),
    "all different": ("".join(map(chr, range(0x4E00, 0x9000))), "a"),
    "repeats in a row": ("(a{2,}b){2,}" + "{2,}" * 2000, "a"),
}


@pytest.mark.parametrize(("first", "second"), BLOW_UPS.values(), ids=BLOW_UPS.keys())
def test_regexes_that_blow_up_are_undecided(first, second):
    assert compare_languages(first, second, max_steps=50_000) == ("undecided", None)


def test_size_alone_is_no_reason_to_give_up():
    assert regex_equivalent("(" * 10_000 + "a" + ")" * 10_000, "a") == "equal"
    assert regex_equivalent("~" * 10_001 + "a", "~a") == "equal"
    assert regex_equivalent("a" + "*" * 10_000, "a*") == "equal"
    assert regex_equivalent("(a{1000}){1000}", "(a{1000}){1000}") == "equal"
    assert regex_equivalent("(a{1000}){1000}", "b*") == "different"


def test_the_limit_is_in_steps_so_the_same_everywhere():
    """The verdict depends on the steps alone: never wrong below the limit that is needed, always right above."""
    decide = functools.partial(regex_equivalent, "(.*dog.*){3,}", ".*(dog.*){3,}")
    verdicts = [decide(max_steps=max_steps) for max_steps in range(0, 5000, 50)]
    num_undecided = verdicts.count("undecided")
    assert verdicts == ["undecided"] * num_undecided + ["equal"] * (100 - num_undecided)
    assert 0 < num_undecided < 100
