"""Scenes of two by two objects, and questions about them.

A scene is four different objects in reading order. Pairs of objects are divided among the splits: no scene of `train`
holds a pair of another split, and each scene of `test` holds a pair that training never shows. Three of four
questions about a scene are about such a pair.

Nothing in a question or its candidates says which candidate is right: see `questions_of`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from llm_jepa.preparers.splits import Row

CATEGORIES = {
    "animal": ("wolf face", "rabbit face", "frog face", "horse face", "lion face", "snake", "giraffe face", "deer"),
    "fruit": ("watermelon", "tangerine", "lemon", "banana", "pineapple", "coconut", "kiwifruit", "pear"),
    "snack": ("doughnut", "cookie", "lollipop", "cupcake", "pretzel", "hamburger", "popcorn", "taco"),
    "vehicle": (
        "automobile",
        "sailboat",
        "rocket",
        "airplane",
        "bicycle",
        "steam locomotive",
        "scooter",
        "helicopter",
    ),
    "garment": ("dress", "kimono", "necktie", "coat", "scarf", "t-shirt", "top hat", "billed cap"),
    "instrument": (
        "musical keyboard",
        "banjo",
        "accordion",
        "violin",
        "saxophone",
        "trumpet",
        "drum with drumsticks",
        "bell",
    ),
    "tool": ("carpentry saw", "screwdriver", "ladder", "broom", "hammer", "axe", "wrench", "key"),
    "plant": (
        "palm tree",
        "maple leaf",
        "cherry blossom",
        "four leaf clover",
        "evergreen tree",
        "sunflower",
        "tulip",
        "cactus",
    ),
}
"""Category -> names of characters in Unicode, in lower case: pictures that a small encoder tells apart."""
PLACES = ("top left", "top right", "bottom left", "bottom right")
NEIGHBOURS = {(0, 1): "left of", (1, 0): "right of", (2, 3): "left of", (3, 2): "right of"} | {
    (0, 2): "above",
    (2, 0): "below",
    (1, 3): "above",
    (3, 1): "below",
}
"""Two places -> how the first lies to the second."""
NUMBERS = ("one", "two", "three", "four")
OBJECTS = [name for members in CATEGORIES.values() for name in members]
PAIR_CODES = {"test": {5, 11, 18, 25, 36, 43, 52, 62}, "validation": {6, 29, 44, 51}}
"""Split -> codes of its pairs, of 1 to 63; the rest is `train`. Codes below 8 are of pairs of one category."""
MAX_DRAWS = 5_000
MIN_PIXELS = 32


@dataclass(frozen=True)
class Scene:
    """Four objects in reading order, and what may be asked of all of them.

    Attributes:
        objects: Names of characters.
        pair: Two neighbouring places; in a held-out split, training never shows their objects together.
        category: The category that is counted, or of which one object is not.
        num_of_category: How many objects are of it.
        asks_odd: Whether it is asked which object is not of the category; else their number is asked.
    """

    objects: tuple[str, str, str, str]
    pair: tuple[int, int]
    category: str
    num_of_category: int
    asks_odd: bool


def check_scenes(num_scenes: Mapping[str, int], num_streams: int, picture_size: int, seed: int) -> None:
    """Raise ValueError if a number is out of range; `num_scenes` has that of each split."""
    if num_scenes["train"] < 1 or min(*num_scenes.values(), num_streams, seed) < 0:
        raise ValueError(
            f"num_train {num_scenes['train']} must be at least 1; num_validation {num_scenes['validation']}, num_test "
            f"{num_scenes['test']}, num_streams {num_streams} and seed {seed} must be 0 or more."
        )
    if picture_size < MIN_PIXELS or picture_size % 2:
        raise ValueError(f"picture_size is {picture_size}; it must be even and at least {MIN_PIXELS}.")


def object_name(character: str) -> str:
    """What an object is called: `wolf face` is a wolf."""
    return character.removesuffix(" face")


def pair_split(one: str, other: str) -> str:
    """The split that a pair of objects belongs to, in either order and for every seed.

    The code of a pair is the exclusive or of the places of its objects in `OBJECTS`. So each object is in as many
    held-out pairs as every other one, and none is rarer in training. Example: rabbit, 1, and lion, 4, have the code 5.
    """
    code = OBJECTS.index(one) ^ OBJECTS.index(other)
    return next((split for split, codes in PAIR_CODES.items() if code in codes), "train")


def draw_scenes(split: str, num_scenes: int, seed: int) -> Iterator[Scene]:
    """Different scenes of a split; they do not depend on the number of those of another.

    Raises:
        ValueError: There are not as many.
    """
    rng, drawn = random.Random(f"{seed} {split}"), set()
    for number in range(num_scenes):
        for _ in range(MAX_DRAWS):
            scene = _draw_scene(rng, split)
            if scene.objects not in drawn:
                break
        else:
            raise ValueError(f"num_{split} is {num_scenes}, but after {number} scenes no other one was drawn.")
        drawn.add(scene.objects)
        yield scene


def _draw_scene(rng: random.Random, split: str) -> Scene:
    """The category and its number are drawn first and kept, so that held-out pairs leave their frequencies alone."""
    category, asks_odd = rng.choice([*CATEGORIES]), rng.random() < 0.5
    num_of_category = 3 if asks_odd else rng.randint(1, 4)
    others = [one for name, members in CATEGORIES.items() if name != category for one in members]
    while True:
        objects = [*rng.sample(CATEGORIES[category], num_of_category), *rng.sample(others, 4 - num_of_category)]
        splits = {pair: pair_split(*pair) for pair in combinations(objects, 2)}
        allowed = {"train": {"train"}, "validation": {"train", "validation"}}.get(split, {*splits.values()})
        asked = [pair for pair, owner in splits.items() if owner == split]
        if asked and set(splits.values()) <= allowed:
            break
    one, other = rng.choice(asked)
    places = rng.choice([*NEIGHBOURS])
    rest = [name for name in objects if name not in (one, other)]
    rng.shuffle(rest)
    placed = {places[0]: one, places[1]: other} | dict(
        zip([i for i in range(4) if i not in places], rest, strict=True)
    )
    in_order = (placed[0], placed[1], placed[2], placed[3])
    return Scene(in_order, places, category, num_of_category, asks_odd)


def questions_of(scene: Scene, rng: random.Random) -> list[Row]:
    """Four questions, each with an answer and candidates, and its kind.

    | kind | question | candidates | chance |
    |---|---|---|---|
    | `where` | Where is the wolf? | the places | 1 / 4 |
    | `corner` | What is in the top left? | the objects of the scene | 1 / 4 |
    | `beside` | What is left of the wolf? | the other objects of the scene | 1 / 3 |
    | `count` | How many animals are there? | one to four | 1 / 4 |
    | `odd` | Which one is not an animal? | the object, and three of no such category that the scene lacks | 1 / 4 |
    """
    names = [object_name(one) for one in scene.objects]
    place, corner = rng.choice(scene.pair), rng.choice(scene.pair)
    one, other = scene.pair
    rows = [
        _row("where", f"Where is the {names[place]}?", PLACES[place], PLACES),
        _row("corner", f"What is in the {PLACES[corner]}?", names[corner], names),
        _row(
            "beside",
            f"What is {NEIGHBOURS[one, other]} the {names[other]}?",
            names[one],
            [name for name in names if name != names[other]],
        ),
    ]
    if not scene.asks_odd:
        number = NUMBERS[scene.num_of_category - 1]
        return [*rows, _row("count", f"How many {scene.category}s are there?", number, NUMBERS)]
    (odd,) = [object_name(one) for one in scene.objects if one not in CATEGORIES[scene.category]]
    absent = [
        object_name(one)
        for category, members in CATEGORIES.items()
        for one in members
        if category != scene.category and one not in scene.objects
    ]
    question = f"Which one is not {with_article(scene.category)}?"
    return [*rows, _row("odd", question, odd, [odd, *rng.sample(absent, 3)])]


def _row(kind: str, question: str, answer: str, candidates: Sequence[str]) -> Row:
    """Candidates are sorted, so that their order says nothing."""
    return {"question": question, "answer": answer, "candidates": sorted(candidates), "kind": kind}


def caption_of(scene: Scene) -> str:
    """One sentence: `A wolf and a bell above a key and an axe.`"""
    one, two, three, four = (with_article(object_name(name)) for name in scene.objects)
    text = f"{one} and {two} above {three} and {four}."
    return text[0].upper() + text[1:]


def with_article(name: str) -> str:
    """`a wolf`, `an axe`."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


@dataclass(frozen=True)
class Stream:
    """Scenes of which each differs from the one before by an object, and one question asked all the time.

    Attributes:
        scenes: The objects of each moment.
        changes: The moments at which another object came, the first one not among them.
        question: What is asked.
        answers: The answer of each moment.
    """

    scenes: list[tuple[str, ...]]
    changes: list[int]
    question: str
    answers: list[str]


def draw_stream(rng: random.Random, num_moments: int, shortest: int, longest: int) -> Stream:
    """One of the four objects, drawn at random, changes every `shortest` to `longest` moments."""
    place = rng.randrange(4)
    scene, scenes, changes = rng.sample(OBJECTS, 4), [], []
    next_change = rng.randint(shortest, longest)
    for moment in range(num_moments):
        if moment == next_change:
            scene = [*scene]
            scene[rng.randrange(4)] = rng.choice([one for one in OBJECTS if one not in scene])
            changes.append(moment)
            next_change += rng.randint(shortest, longest)
        scenes.append(tuple(scene))
    answers = [object_name(one[place]) for one in scenes]
    return Stream(scenes, changes, f"What is in the {PLACES[place]}?", answers)
