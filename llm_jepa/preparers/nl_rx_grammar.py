"""The published grammar of NL-RX: pairs of an English description and the regular expression that it means.

Locascio et al. 2016 (arXiv 1608.03000): a random tree of nodes is drawn within limits and rendered twice, as a prompt
and as a regex. `NODE_KINDS` gives each node's words and its regex. `draw_pairs` keeps each prompt with one regex and
each regex with one prompt, so any split is disjoint in both.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

FILLER_WORDS = ("dog", "truck", "ring", "lake")  # they replace the first WORD of a tree, the second, ...
REPEAT_COUNTS = range(2, 8)  # n of "n or more times"
TRIPLE_KEEP_PROBABILITY = 0.5  # of trees with or3 or and3, which would otherwise dominate

LITERALS = ("number", "capital", "lower", "letter", "word", "word", "word", "word", "character", "vowel")
FUNCTIONS = ("contains", "only", "starts", "ends", "words", "followed")
COMPOSITIONS = ("before", "or", "and", "not", "or3", "and3")
MODIFIERS = ("at_least_once", "n_or_more", "zero_or_more")

# The node kinds that an operand may have, all entries equally likely.
NO_LITERAL = FUNCTIONS + COMPOSITIONS + MODIFIERS
ANY = NO_LITERAL + LITERALS
SIMPLE = (*FUNCTIONS, *MODIFIERS, *LITERALS, "or")
TRIPLE = (LITERALS, LITERALS, LITERALS)  # operands of or3 and and3


class NodeKind(NamedTuple):
    """A kind of node: templates over its operands ({0}, {1}, {2}) and repeats ({n}), and the operands' kinds."""

    regex: str
    words: str
    operands: tuple[tuple[str, ...], ...] = ()
    words_below_not: str | None = None  # negation distributes: not (x and y) reads "not x and not y"


NODE_KINDS = {
    "line": NodeKind("{0}", "lines {0}", (NO_LITERAL,)),
    "number": NodeKind("[0-9]", "a number"),
    "capital": NodeKind("[A-Z]", "a capital letter"),
    "lower": NodeKind("[a-z]", "a lower-case letter"),
    "letter": NodeKind("[A-Za-z]", "a letter"),
    "vowel": NodeKind("[AEIOUaeiou]", "a vowel"),
    "character": NodeKind(".", "a character"),
    "word": NodeKind("WORD", "the string 'WORD'"),
    "contains": NodeKind(".*{0}.*", "containing {0}", (ANY,)),
    "only": NodeKind("{0}", "containing only {0}", (LITERALS,)),
    "starts": NodeKind("({0})(.*)", "starting with {0}", (SIMPLE,)),
    "ends": NodeKind("(.*)({0})", "ending with {0}", (SIMPLE,)),
    "words": NodeKind(r"\b{0}\b", "words with {0}", (NO_LITERAL,)),
    "followed": NodeKind("{0}.*{1}.*", "{0} followed by {1}", (LITERALS, LITERALS)),
    "before": NodeKind("({0}).*({1}).*", "{0} before {1}", (ANY, ANY)),
    "or": NodeKind("({0})|({1})", "{0} or {1}", (ANY, ANY)),
    "and": NodeKind("({0})&({1})", "{0} and {1}", (ANY, ANY), "{0} and not {1}"),
    "not": NodeKind("~({0})", "not {0}", (ANY,)),
    "or3": NodeKind("({0})|({1})|({2})", "either {0}, {1}, or {2}", TRIPLE, "{0}, {1}, or {2}"),
    "and3": NodeKind("({0})&({1})&({2})", "all of {0}, {1}, and {2}", TRIPLE, "{0}, not {1}, and not {2}"),
    "at_least_once": NodeKind("({0})+", "{0} at least once", (SIMPLE,)),
    "n_or_more": NodeKind("({0}){{{n},}}", "{0}, {n} or more times", (SIMPLE,)),
    "zero_or_more": NodeKind("({0})*", "{0}, zero or more times", (SIMPLE,)),
}

# Pattern -> replacement, applied in this order to the words of a tree. The odd phrases that remain ("words that don't
# the string 'dog'") are in the published set too.
SMOOTHING = (
    (r"^lines (?=a |the |words )", "lines with "),
    (r"^lines not (?=a |the )", "lines not having "),
    (r"^lines (?=either )", "lines having "),
    (r"^lines all of ", "lines having "),
    (r"\ball of ", ""),
    (r"\bcontaining not\b", "not containing"),
    (r"^lines with words with not (?=a )", "lines with words that don't have "),
    (r"^lines with words with not ", "lines with words that don't "),
    (r"\bwords with containing\b", "words that contain"),
)

# Phrases that repeat or contradict themselves.
REJECTED_PHRASES = (
    "letter before a letter",
    "before starting",
    "containing starting",
    "starting with containing",
    "starting with ending",
    "ending with starting",
)


class Limits(NamedTuple):
    """Limits of a tree's growth: only literals follow below `depth` nodes, or once a path costs `nodes`.

    A node costs one, plus one for each of its operands. The cost of a path includes the siblings of its nodes.
    """

    depth: int
    nodes: int


LIMITS = (Limits(1, 4), Limits(2, 5), Limits(3, 7))
LIMITS_WEIGHTS = (10, 600, 70)


class Tree(NamedTuple):
    """One node with its operands; `repeats` is 0 except for `n_or_more`."""

    kind: str
    operands: tuple[Tree, ...] = ()
    repeats: int = 0


class Pair(NamedTuple):
    source: str
    target: str


class DrawnPairs(NamedTuple):
    """The pairs in the order of drawing, and counts of repeated and ambiguous ones."""

    pairs: list[Pair]
    repeated_prompts: int  # trees left out: their prompt had another regex before
    repeated_regexes: int  # trees left out: their regex had another prompt before
    num_ambiguous: int  # pairs whose wording, apart from literals and repeats, has another regex in another pair


def may_add(kind: str, used: list[str]) -> bool:
    """Whether a tree may get one more node of a kind: each kind once, `word` four times, one modifier in all."""
    if kind == "word":
        return used.count(kind) < len(FILLER_WORDS)
    if kind in MODIFIERS:
        return not any(modifier in used for modifier in MODIFIERS)
    return kind not in used


def draw_operands(
    rng: random.Random, parent: str, limits: Limits, used: list[str], depth: int = 0, nodes: int = 0
) -> tuple[Tree, ...] | None:
    """Draw the operands of a node that has `depth` ancestors, or None if they break a rule.

    `nodes` is the cost of the path from the root. `used` collects the kinds of the whole tree. After two
    compositions ("and", "or") only literals follow.
    """
    kinds = []
    for choices in NODE_KINDS[parent].operands:
        if depth >= limits.depth or nodes >= limits.nodes or ("and" in used and "or" in used):
            if choices is NO_LITERAL:
                return None
            choices = LITERALS
        kind = choices[int(rng.random() * len(choices))]
        if not may_add(kind, used):
            return None
        used.append(kind)
        nodes += 1 + len(NODE_KINDS[kind].operands)
        kinds.append(kind)
    trees = []
    for kind in kinds:
        operands = draw_operands(rng, kind, limits, used, depth + 1, nodes)
        if operands is None:
            return None
        trees.append(Tree(kind, operands, rng.choice(REPEAT_COUNTS) if kind == "n_or_more" else 0))
    return tuple(trees)


def draw_tree(rng: random.Random, limits: Limits) -> Tree | None:
    """Draw one tree, or None if it breaks a rule.

    At the top, `and`, `or`, `and3` and `or3` have no literal as operand. On the second level, `only` needs a `not`
    above.
    """
    used: list[str] = []
    operands = draw_operands(rng, "line", limits, used)
    if operands is None:
        return None
    top = operands[0]
    below_top = [operand.kind for operand in top.operands]
    if top.kind in ("and", "or", "and3", "or3") and any(kind in LITERALS for kind in below_top):
        return None
    if "only" in below_top and top.kind != "not":
        return None
    if ("and3" in used or "or3" in used) and rng.random() > TRIPLE_KEEP_PROBABILITY:
        return None
    return Tree("line", operands)


def raw_words(tree: Tree, below_not: bool = False) -> str:
    """The words of a tree before smoothing, with WORD as a placeholder."""
    kind = NODE_KINDS[tree.kind]
    operands = [raw_words(operand, below_not or tree.kind == "not") for operand in tree.operands]
    template = kind.words_below_not if below_not and kind.words_below_not else kind.words
    return template.format(*operands, n=tree.repeats)


def raw_regex(tree: Tree) -> str:
    """The regex of a tree, with WORD as a placeholder."""
    return NODE_KINDS[tree.kind].regex.format(*map(raw_regex, tree.operands), n=tree.repeats)


def render(tree: Tree) -> Pair:
    """The prompt and the regex of a tree whose root is `line`."""
    prompt, target = raw_words(tree), raw_regex(tree)
    for pattern, replacement in SMOOTHING:
        prompt = re.sub(pattern, replacement, prompt)
    for word in FILLER_WORDS:
        prompt, target = prompt.replace("WORD", word, 1), target.replace("WORD", word, 1)
    return Pair(prompt, target)


def without_literals(tree: Tree) -> Tree:
    """The tree with all literals and repeats made equal, so that only the wording is left."""
    if tree.kind in LITERALS:
        return Tree("number")
    return Tree(tree.kind, tuple(map(without_literals, tree.operands)))


def count_ambiguous(trees: Sequence[Tree]) -> int:
    """The number of trees whose wording, apart from literals and repeats, has another regex in another tree."""
    wordings = [render(without_literals(tree)) for tree in trees]
    readings = defaultdict(set)
    for wording in wordings:
        readings[wording.source].add(wording.target)
    return sum(len(readings[wording.source]) > 1 for wording in wordings)


def draw_pairs(num_pairs: int, seed: int) -> DrawnPairs:
    """Draw trees until `num_pairs` of them differ in prompt and in regex. The first of equal ones is kept."""
    rng = random.Random(seed)
    seen: set[Tree] = set()
    trees: dict[Pair, Tree] = {}
    prompts: set[str] = set()
    regexes: set[str] = set()
    repeated_prompts = repeated_regexes = 0
    while len(trees) < num_pairs:
        (limits,) = rng.choices(LIMITS, LIMITS_WEIGHTS)
        tree = draw_tree(rng, limits)
        if tree is None or tree in seen:
            continue
        seen.add(tree)
        pair = render(tree)
        if pair in trees or any(words in pair.source for words in REJECTED_PHRASES):
            continue
        if pair.source in prompts:
            repeated_prompts += 1
        elif pair.target in regexes:
            repeated_regexes += 1
        else:
            trees[pair] = tree
            prompts.add(pair.source)
            regexes.add(pair.target)
    return DrawnPairs(list(trees), repeated_prompts, repeated_regexes, count_ambiguous(list(trees.values())))
