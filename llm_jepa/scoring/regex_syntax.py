r"""Parses a regex of the NL-RX dialect into a postfix program.

The dialect is the part of dk.brics.automaton's that NL-RX (Locascio et al. 2016, arXiv 1608.03000) uses:

| written | means |
|---|---|
| `x\|y` | union |
| `x&y` | intersection |
| `xy` | concatenation |
| `x*` `x+` `x?` `x{n}` `x{n,}` `x{n,m}` | repeats; they can be repeated again; none is lazy or possessive |
| `~x` | complement: what x does not match |
| `(x)` `()` | grouping; the empty word |
| `[a-z_]` `[^a-z]` `.` | one character of a set, outside a set, any character |
| `\b` | the edge of a word of `[A-Za-z0-9_]` |
| `\` and a punctuation mark | that mark |

The table goes from the loosest binding to the tightest, so `a|b&cd*` is `a|(b&(c(d*)))` and `~a*` is `(~a)*`. Other
characters are literal, whitespace included, except the operators of other dialects (`^ $ @ # " <`, `\d`), which are
refused if unescaped. dk.brics itself reads `\b` as the letter b; NL-RX uses it for "words with", so here it is the
word boundary, as in other dialects.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn

LAST_CODE_POINT = 0x10FFFF
REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
COUNTS = re.compile(r"\{([0-9]{1,9})(,([0-9]{1,9})?)?\}")
OPERATORS_ELSEWHERE = '^$@#"<'
NUM_CHARACTERS_SHOWN = 20  # of the text in an error


class Instruction(NamedTuple):
    """One step of a postfix program: it takes operands from the stack and pushes its result.

    `characters` pushes one character inside `ranges`, each (first, last) in code points, or outside of them if
    `negated`; `boundary` pushes the word boundary; `repeat` and `complement` take one operand; `concatenation`,
    `intersection` and `union` take `num_operands`, and the concatenation of none is the empty word.
    """

    kind: Literal["characters", "boundary", "repeat", "complement", "concatenation", "intersection", "union"]
    num_operands: int = 0
    ranges: tuple[tuple[int, int], ...] = ()
    negated: bool = False
    low: int = 0
    high: int | None = None  # no upper bound


def read_regex(regex: str) -> tuple[Instruction, ...]:
    """The postfix program of a regex. Time and space are linear in its length, however deep it nests.

    Raises:
        ValueError: It is not a string or cannot be read. The message says where and why.
    """
    if not isinstance(regex, str):
        raise ValueError(f"A regex must be a string, not {type(regex).__name__}.")
    return _Reader(regex).read()


@dataclass
class _Group:
    """A partly read group: its finished parts on each level, and complements that wait for an operand."""

    start: int
    complements_before: int = 0
    num_alternatives: int = 0
    num_conjuncts: int = 0
    num_factors: int = 0
    complements: int = 0  # `~` that wait for their operand


class _Reader:
    def __init__(self, regex: str):
        self.regex = regex
        self.position = 0
        self.program: list[Instruction] = []
        self.groups = [_Group(start=0)]  # open groups; the first is the whole regex

    def read(self) -> tuple[Instruction, ...]:
        while self.position < len(self.regex):
            self._read_next()
        if len(self.groups) > 1:
            self._refuse(self.groups[-1].start, "this parenthesis is never closed")
        self._finish_group(self.groups.pop())
        return tuple(self.program)

    def _refuse(self, position: int, why: str) -> NoReturn:
        text = self.regex[position : position + NUM_CHARACTERS_SHOWN]
        where = f"character {position}, {text!r}" if text else "the end"
        raise ValueError(f"The regex cannot be read at {where}: {why}.")

    def _read_next(self) -> None:
        character = self.regex[self.position]
        group = self.groups[-1]
        if character == "(":
            self.groups.append(_Group(start=self.position, complements_before=group.complements))
            group.complements = 0
        elif character == ")":
            self._close_group()
        elif character == "|":
            self._finish_alternative(group)
        elif character == "&":
            self._finish_conjunct(group)
        elif character == "~":
            group.complements += 1
        elif character in REPEATS:
            self._repeat(*REPEATS[character])
        elif character == "{":
            self._read_counts()
        elif character == "[":
            self._read_set()
        elif character == ".":
            self._push(Instruction("characters", ranges=((0, LAST_CODE_POINT),)))
        elif self.regex.startswith(r"\b", self.position):
            self._push(Instruction("boundary"))
            self.position += 1
        elif character in "]}":
            self._refuse(self.position, f"no bracket is open here; write \\{character} for the character")
        elif character in OPERATORS_ELSEWHERE:
            self._refuse(self.position, f"no operator of this dialect; write \\{character} for the character")
        else:
            self._push(Instruction("characters", ranges=((self._read_character(),) * 2,)))
            return
        self.position += 1

    def _push(self, instruction: Instruction) -> None:
        self.program.append(instruction)
        self._end_operand(self.groups[-1])

    def _end_operand(self, group: _Group) -> None:
        """Apply the complements that wait for the operand just read."""
        self.program += [Instruction("complement", num_operands=1)] * group.complements
        group.complements = 0
        group.num_factors += 1

    def _repeat(self, low: int, high: int | None) -> None:
        group = self.groups[-1]
        if group.num_factors == 0 or group.complements:
            self._refuse(self.position, "there is nothing before it to repeat")
        self.program.append(Instruction("repeat", num_operands=1, low=low, high=high))

    def _read_counts(self) -> None:
        match = COUNTS.match(self.regex, self.position)
        if not match:
            self._refuse(
                self.position, "a count is {n}, {n,} or {n,m} with at most nine digits; write \\{ for a brace"
            )
        low = int(match[1])
        high = low if match[2] is None else None if match[3] is None else int(match[3])
        if high is not None and high < low:
            self._refuse(self.position, f"{low} is more than {high}")
        self._repeat(low, high)
        self.position = match.end() - 1

    def _read_set(self) -> None:
        """Read up to the closing bracket. A hyphen at either end is literal."""
        start = self.position
        negated = self.regex.startswith("[^", start)
        self.position += 2 if negated else 1
        ranges: list[tuple[int, int]] = []
        while self.position < len(self.regex) and self.regex[self.position] != "]":
            range_start = self.position
            first = last = self._read_character()
            if self.regex.startswith("-", self.position) and not self.regex.startswith("-]", self.position):
                self.position += 1
                last = self._read_character()
            if last < first:
                self._refuse(range_start, "the range ends before it begins")
            ranges.append((first, last))
        if self.position >= len(self.regex):
            self._refuse(start, "this bracket is never closed")
        if not ranges:
            self._refuse(start, "the set is empty")
        self._push(Instruction("characters", ranges=tuple(ranges), negated=negated))

    def _read_character(self) -> int:
        """Read one character, escaped or not, and return its code point."""
        start = self.position
        if self.regex.startswith("\\", start):
            self.position += 1
        character = self.regex[self.position : self.position + 1]
        if not character:
            self._refuse(self.position, "a character is missing")
        if self.position > start and character.isalnum():
            self._refuse(start, "no escape of this dialect")
        self.position += 1
        return ord(character)

    def _finish_conjunct(self, group: _Group) -> None:
        if group.num_factors == 0 or group.complements:
            self._refuse(self.position, "an operand is missing before it; write () for the empty word")
        self._join("concatenation", group.num_factors)
        group.num_factors = 0
        group.num_conjuncts += 1

    def _finish_alternative(self, group: _Group) -> None:
        self._finish_conjunct(group)
        self._join("intersection", group.num_conjuncts)
        group.num_conjuncts = 0
        group.num_alternatives += 1

    def _finish_group(self, group: _Group) -> None:
        self._finish_alternative(group)
        self._join("union", group.num_alternatives)

    def _join(self, kind: Literal["concatenation", "intersection", "union"], num_operands: int) -> None:
        if num_operands > 1:
            self.program.append(Instruction(kind, num_operands))

    def _close_group(self) -> None:
        if len(self.groups) == 1:
            self._refuse(self.position, "no parenthesis is open here; write \\) for the character")
        group = self.groups.pop()
        if self.position == group.start + 1:
            self.program.append(Instruction("concatenation"))
        else:
            self._finish_group(group)
        outer = self.groups[-1]
        outer.complements = group.complements_before
        self._end_operand(outer)
