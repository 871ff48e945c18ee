"""Prepare NL-RX: descriptions in English and the regular expressions they mean, by the published grammar.

    python data/nl_rx.py --output_dir data/nl_rx --num_train 8000 --num_test 2000 --seed 0

The grammar is that of Locascio et al. 2016 (arXiv 1608.03000): a random tree of nodes is drawn within limits
and rendered twice, as a phrase and as a regex. `KINDS` gives each node's words and its regex. Every prompt is
kept with one regex and every regex with one prompt, so any split is disjoint in both. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from llm_jepa.files.staged import staged_directory
from llm_jepa.preparers.card import card_header
from llm_jepa.preparers.program import cleaned_up_at_sigterm

FILES = ("train.jsonl", "test.jsonl", "README.md")
FILLER_WORDS = ("dog", "truck", "ring", "lake")  # the first WORD of a tree is dog, the second truck, ...
REPEATS = range(2, 8)  # n of "n or more times"
MAX_PAIRS = 20_000  # a quarter of a minute; beyond it new pairs become rare
KEPT_SHARE_OF_THREES = 0.5  # of the trees with or3 or and3, which would otherwise prevail

LITERALS = ("number", "capital", "lower", "letter", "word", "word", "word", "word", "character", "vowel")
FUNCTIONS = ("contains", "only", "starts", "ends", "words", "followed")
COMPOSITIONS = ("before", "or", "and", "not", "or3", "and3")
MODIFIERS = ("at_least_once", "n_or_more", "zero_or_more")

# What may stand in an operand's place, all entries equally likely.
NO_LITERAL = FUNCTIONS + COMPOSITIONS + MODIFIERS
ANY = NO_LITERAL + LITERALS
SIMPLE = (*FUNCTIONS, *MODIFIERS, *LITERALS, "or")
THREE = (LITERALS, LITERALS, LITERALS)  # operands of or3 and and3


class Kind(NamedTuple):
    """A kind of node: `regex` and `words`, templates over the operands ({0}, {1}, {2}) and repeats ({n})."""

    regex: str
    words: str
    operands: tuple[tuple[str, ...], ...] = ()
    words_below_not: str | None = None  # negation distributes: not (x and y) is said "not x and not y"


KINDS = {
    "line": Kind("{0}", "lines {0}", (NO_LITERAL,)),
    "number": Kind("[0-9]", "a number"),
    "capital": Kind("[A-Z]", "a capital letter"),
    "lower": Kind("[a-z]", "a lower-case letter"),
    "letter": Kind("[A-Za-z]", "a letter"),
    "vowel": Kind("[AEIOUaeiou]", "a vowel"),
    "character": Kind(".", "a character"),
    "word": Kind("WORD", "the string 'WORD'"),
    "contains": Kind(".*{0}.*", "containing {0}", (ANY,)),
    "only": Kind("{0}", "containing only {0}", (LITERALS,)),
    "starts": Kind("({0})(.*)", "starting with {0}", (SIMPLE,)),
    "ends": Kind("(.*)({0})", "ending with {0}", (SIMPLE,)),
    "words": Kind(r"\b{0}\b", "words with {0}", (NO_LITERAL,)),
    "followed": Kind("{0}.*{1}.*", "{0} followed by {1}", (LITERALS, LITERALS)),
    "before": Kind("({0}).*({1}).*", "{0} before {1}", (ANY, ANY)),
    "or": Kind("({0})|({1})", "{0} or {1}", (ANY, ANY)),
    "and": Kind("({0})&({1})", "{0} and {1}", (ANY, ANY), "{0} and not {1}"),
    "not": Kind("~({0})", "not {0}", (ANY,)),
    "or3": Kind("({0})|({1})|({2})", "either {0}, {1}, or {2}", THREE, "{0}, {1}, or {2}"),
    "and3": Kind("({0})&({1})&({2})", "all of {0}, {1}, and {2}", THREE, "{0}, not {1}, and not {2}"),
    "at_least_once": Kind("({0})+", "{0} at least once", (SIMPLE,)),
    "n_or_more": Kind("({0}){{{n},}}", "{0}, {n} or more times", (SIMPLE,)),
    "zero_or_more": Kind("({0})*", "{0}, zero or more times", (SIMPLE,)),
}

# The clean-up list, applied in this order to the words of a tree. What it leaves odd ("words that don't the
# string 'dog'") is odd in the published set too.
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
CLUMSY = (
    "letter before a letter",
    "before starting",
    "containing starting",
    "starting with containing",
    "starting with ending",
    "ending with starting",
)


class Limits(NamedTuple):
    """How far a tree may grow: below `depth` nodes, or once a path has cost `nodes`, only literals follow.

    A node costs one and one more for each of its operands. A path pays for its own nodes and their siblings.
    """

    depth: int
    nodes: int


LIMITS = (Limits(1, 4), Limits(2, 5), Limits(3, 7))
LIMITS_WEIGHTS = (10, 600, 70)


class Tree(NamedTuple):
    """One node with its operands; `repeats` is 0 but for `n_or_more`."""

    kind: str
    operands: tuple[Tree, ...] = ()
    repeats: int = 0


class Pair(NamedTuple):
    source: str
    target: str


class Drawn(NamedTuple):
    """Pairs in the order of their drawing, and counts of ambiguous draws."""

    pairs: list[Pair]
    second_readings: int  # trees left out, whose prompt was there with another regex
    second_prompts: int  # trees left out, whose regex was there with another prompt
    ambiguous: int  # pairs whose wording, literals and repeats aside, has another regex in another pair


def may_join(kind: str, used: list[str]) -> bool:
    """No kind comes twice in a tree but WORD, of which there are four; only one modifier."""
    if kind == "word":
        return used.count(kind) < len(FILLER_WORDS)
    if kind in MODIFIERS:
        return not any(modifier in used for modifier in MODIFIERS)
    return kind not in used


def draw_operands(
    rng: random.Random, parent: str, limits: Limits, used: list[str], depth: int = 0, nodes: int = 0
) -> tuple[Tree, ...] | None:
    """Draw the operands of a node that has `depth` ancestors, or None if they break a rule.

    `nodes` is the cost of the path from the root; `used` collects the kinds of the whole tree. After two
    compositions ("and", "or") only literals follow.
    """
    kinds = []
    for choices in KINDS[parent].operands:
        if depth >= limits.depth or nodes >= limits.nodes or ("and" in used and "or" in used):
            if choices is NO_LITERAL:
                return None
            choices = LITERALS
        kind = choices[int(rng.random() * len(choices))]
        if not may_join(kind, used):
            return None
        used.append(kind)
        nodes += 1 + len(KINDS[kind].operands)
        kinds.append(kind)
    trees = []
    for kind in kinds:
        operands = draw_operands(rng, kind, limits, used, depth + 1, nodes)
        if operands is None:
            return None
        trees.append(Tree(kind, operands, rng.choice(REPEATS) if kind == "n_or_more" else 0))
    return tuple(trees)


def draw_tree(rng: random.Random, limits: Limits) -> Tree | None:
    """Draw one tree, or None if it breaks a rule.

    At the top `and`, `or`, `and3`, `or3` join no literal; on the second level `only` needs a `not` above.
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
    if ("and3" in used or "or3" in used) and rng.random() > KEPT_SHARE_OF_THREES:
        return None
    return Tree("line", operands)


def raw_words(tree: Tree, below_not: bool = False) -> str:
    """The words of a tree before smoothing, with WORD where a word is to be filled in."""
    kind = KINDS[tree.kind]
    operands = [raw_words(operand, below_not or tree.kind == "not") for operand in tree.operands]
    template = kind.words_below_not if below_not and kind.words_below_not else kind.words
    return template.format(*operands, n=tree.repeats)


def raw_regex(tree: Tree) -> str:
    """The regex of a tree, with WORD where a word is to be filled in."""
    return KINDS[tree.kind].regex.format(*map(raw_regex, tree.operands), n=tree.repeats)


def render(tree: Tree) -> Pair:
    """The prompt and the regex of a tree whose root is a line."""
    prompt, target = raw_words(tree), raw_regex(tree)
    for pattern, replacement in SMOOTHING:
        prompt = re.sub(pattern, replacement, prompt)
    for word in FILLER_WORDS:
        prompt, target = prompt.replace("WORD", word, 1), target.replace("WORD", word, 1)
    return Pair(prompt, target)


def without_literals(tree: Tree) -> Tree:
    """The tree with all its literals and repeats made equal: what its wording alone tells."""
    if tree.kind in LITERALS:
        return Tree("number")
    return Tree(tree.kind, tuple(map(without_literals, tree.operands)))


def count_ambiguous(trees: Sequence[Tree]) -> int:
    wordings = [render(without_literals(tree)) for tree in trees]
    readings = defaultdict(set)
    for wording in wordings:
        readings[wording.source].add(wording.target)
    return sum(len(readings[wording.source]) > 1 for wording in wordings)


def draw_pairs(num_pairs: int, seed: int) -> Drawn:
    """Draw trees until `num_pairs` of them differ in prompt and in regex. The first drawn is kept."""
    rng = random.Random(seed)
    seen: set[Tree] = set()
    trees: dict[Pair, Tree] = {}
    prompts: set[str] = set()
    regexes: set[str] = set()
    second_readings = second_prompts = 0
    while len(trees) < num_pairs:
        (limits,) = rng.choices(LIMITS, LIMITS_WEIGHTS)
        tree = draw_tree(rng, limits)
        if tree is None or tree in seen:
            continue
        seen.add(tree)
        pair = render(tree)
        if pair in trees or any(words in pair.source for words in CLUMSY):
            continue
        if pair.source in prompts:
            second_readings += 1
        elif pair.target in regexes:
            second_prompts += 1
        else:
            trees[pair] = tree
            prompts.add(pair.source)
            regexes.add(pair.target)
    return Drawn(list(trees), second_readings, second_prompts, count_ambiguous(list(trees.values())))


CARD = """
# NL-RX, generated

English descriptions of lines of text and the regular expressions they mean, generated by

    python data/nl_rx.py --output_dir DIR --num_train {num_train} --num_test {num_test} --seed {seed}

Grammar: N. Locascio, K. Narasimhan, E. DeLeon, N. Kushman, R. Barzilay, Neural Generation of Regular
Expressions from Natural Language with Minimal Domain Knowledge, EMNLP 2016, arXiv 1608.03000. The authors
published their generator, deep-regex, under the MIT licence. These rows are not theirs: they were generated
anew by the script above and come under its licence, Apache-2.0.

| file | rows | sha256 |
|---|---|---|
| train.jsonl | {num_train} | {train_sha256} |
| test.jsonl | {num_test} | {test_sha256} |

| column | type | meaning |
|---|---|---|
| source | string | the description, which begins with "lines" |
| target | string | the regex, with `&` for intersection and `~` for complement |

Union binds least, then `&`, concatenation, repeats and `~`.

No prompt and no regex occurs twice, within a split or across the two; {second_readings} second readings of a
prompt and {second_prompts} second prompts of a regex were left out for that. Different regexes may still
denote the same language.

The grammar's English is ambiguous: "lines not having x before y" is said of `~((x).*(y).*)` and of
`(~(x)).*(y).*`. For {ambiguous} of the {num_pairs} rows the same wording, literals and repeats aside, has
another regex in another row, so no model can be expected to match every regex exactly.
"""


def make_files(num_train: int, num_test: int, seed: int) -> tuple[dict[str, str], Drawn]:
    """The contents of the data set's files by name, and what was drawn.

    Raises:
        ValueError: a count below 1, more than MAX_PAIRS rows in all, or a negative seed.
    """
    if num_train < 1 or num_test < 1:
        raise ValueError(f"num_train {num_train} and num_test {num_test} must both be at least 1")
    num_pairs = num_train + num_test
    if num_pairs > MAX_PAIRS:
        raise ValueError(f"num_train + num_test is {num_pairs}; at most {MAX_PAIRS} distinct pairs are drawn")
    if seed < 0:
        raise ValueError(f"seed {seed} must be 0 or more")
    drawn = draw_pairs(num_pairs, seed)
    pairs = drawn.pairs.copy()
    random.Random(seed).shuffle(pairs)  # common phrases are drawn first
    rows = [json.dumps(pair._asdict()) + "\n" for pair in pairs]
    train, test = "".join(rows[:num_train]), "".join(rows[num_train:])
    card = card_header("apache-2.0", ["en"], ["text-generation"], ["train", "test"]) + CARD.format(
        num_train=num_train,
        num_test=num_test,
        seed=seed,
        train_sha256=hashlib.sha256(train.encode()).hexdigest(),
        test_sha256=hashlib.sha256(test.encode()).hexdigest(),
        num_pairs=num_pairs,
        second_readings=drawn.second_readings,
        second_prompts=drawn.second_prompts,
        ambiguous=drawn.ambiguous,
    )
    return dict(zip(FILES, (train, test, card), strict=True)), drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output_dir", type=Path, default=Path("data/nl_rx"))
    parser.add_argument("--num_train", type=int, default=8000)
    parser.add_argument("--num_test", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        with cleaned_up_at_sigterm(), staged_directory(options.output_dir, FILES) as staging:
            files, drawn = make_files(options.num_train, options.num_test, options.seed)
            for name, text in files.items():
                (staging / name).write_text(text, encoding="utf-8")
    except ValueError as error:
        parser.error(str(error))
    num_train, num_test, output_dir = options.num_train, options.num_test, options.output_dir
    print(f"{output_dir}: {num_train} train and {num_test} test pairs, seed {options.seed}")
    print(
        f"left out {drawn.second_readings} second readings of a prompt and {drawn.second_prompts} second "
        f"prompts of a regex; kept {drawn.ambiguous} rows whose wording has another regex in another row"
    )


if __name__ == "__main__":
    main()
