"""The reversal curse: facts learned one way and asked the other way.

Berglund et al. 2023, The Reversal Curse (arXiv 2309.12288): a model that learned "A is B" does not know who B is. A
fact is a pair of made-up names, `bakodu teaches` -> `mifuna`; asked the other way, `mifuna is taught by` -> `bakodu`.
"""

import random
from typing import NamedTuple

from llm_jepa.preparers.splits import Row

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvwz" for vowel in "aeiou"]
NAME_SYLLABLES = 3
NUM_NAMES = len(SYLLABLES) ** NAME_SYLLABLES
VALIDATION_SHARE = 0.2


class Facts(NamedTuple):
    """Rows by split."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


def draw_facts(num_facts: int, both_ways_share: float, seed: int) -> Facts:
    """Facts between names of which each occurs in one fact alone.

    `train` has every fact forward, and `both_ways_share` of them backward too. Of the others the backward rows are
    held out: `VALIDATION_SHARE` of them are `validation`, the rest `test`.

    Raises:
        ValueError: A number is out of range, or no fact is held out.
    """
    num_both = round(num_facts * both_ways_share)
    if not 2 <= 2 * num_facts <= NUM_NAMES or not 0 <= num_both < num_facts or seed < 0:
        raise ValueError(
            f"num_facts {num_facts} must be from 1 to {NUM_NAMES // 2}; both_ways_share {both_ways_share} from 0 to "
            f"below 1, so that a fact is left to ask; seed {seed} 0 or more."
        )
    rng = random.Random(seed)
    names = [_name(number) for number in rng.sample(range(NUM_NAMES), 2 * num_facts)]
    facts = list(zip(names[::2], names[1::2], strict=True))
    backward = [{"source": f"{second} is taught by", "target": first} for first, second in facts]
    train = [{"source": f"{first} teaches", "target": second} for first, second in facts] + backward[:num_both]
    rng.shuffle(train)
    end = num_both + round((num_facts - num_both) * VALIDATION_SHARE)
    return Facts(train, backward[num_both:end], backward[end:])


def _name(number: int) -> str:
    """The name of a number below NUM_NAMES: its digits in base 75 as syllables. 0 is `bababa`."""
    digits = [number // len(SYLLABLES) ** place % len(SYLLABLES) for place in range(NAME_SYLLABLES)]
    return "".join(SYLLABLES[digit] for digit in digits)
