r"""Decides whether two regexes of the NL-RX dialect denote the same language, i.e. match the same whole strings.

Strings are over all of Unicode, and `.` is any character. A regex matches spans of a string. `\b` matches an empty
span if exactly one of its two neighbours is a character of `[A-Za-z0-9_]`; the start and the end of the string are no
such character. `x&y` matches the spans that both match, and `~x` those that x does not match, also if `\b` makes that
depend on the neighbours. `regex_syntax` describes the dialect.

The method is Brzozowski's (Derivatives of Regular Expressions, JACM 1964). The derivative of x by a character is a
regex for the rest that may follow it in a match of x; up to simplification, each regex has finitely many derivatives.
Pairs of derivatives by the same string are therefore the states of a finite automaton. It is searched breadth first
until one regex of a pair accepts the empty rest and the other does not, or until there is no new pair. Characters that
the two regexes do not distinguish are tried once (Owens, Reppy and Turon, JFP 2009), and equal expressions are one
object. A state also stores whether the last character was a word character, which is all that `\b` needs of the past.

The problem is PSPACE-hard for plain regexes and has no elementary bound with nested complements, hence a limit. It
counts steps, each a bounded amount of work of a few microseconds, so a verdict does not depend on the machine. The
limit also bounds memory. The costliest gold of NL-RX-SYNTH takes 200,000 steps, the median gold 210.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from llm_jepa.scoring.regex_syntax import LAST_CODE_POINT, Instruction, read_regex

Verdict = Literal["equal", "different", "undecided"]
Kind = Literal["characters", "boundary", "concatenation", "union", "complement", "repeat"]
MAX_STEPS = 500_000
MAX_DEPTH = 100  # of nested expressions: keeps recursion far from Python's limit

WORD_RANGES = tuple((ord(first), ord(last)) for first, last in ("09", "AZ", "__", "az"))
LEGIBLE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,:;!?/+*=%&@#~^$|()[]{}<>'\"`\\ "

# The contexts of a position: bit 2 * before + after, each 1 for a word character. A set of them has four bits.
EVERYWHERE, NOWHERE = 0b1111, 0b0000
AT_BOUNDARY = 0b0110


def regex_equivalent(first: str, second: str, *, max_steps: int = MAX_STEPS) -> Verdict:
    """Whether two regexes match the same strings; "undecided" if that takes more than `max_steps`.

    Raises:
        ValueError: One of them cannot be read; the error says where and why.
    """
    return compare_languages(first, second, max_steps=max_steps).verdict


class Comparison(NamedTuple):
    """`witness` is a shortest string that only one of two different regexes matches; else None."""

    verdict: Verdict
    witness: str | None = None


def compare_languages(first: str, second: str, *, max_steps: int = MAX_STEPS) -> Comparison:
    """As `regex_equivalent`, with a string that proves a difference."""
    programs = read_regex(first), read_regex(second)
    if programs[0] == programs[1]:
        return Comparison("equal")
    try:
        expressions = _Expressions(programs, max_steps)
        witness = expressions.find_difference(*map(expressions.build, programs))
    except _LimitReachedError:
        return Comparison("undecided")
    return Comparison("equal") if witness is None else Comparison("different", witness)


def language_kind(regex: str) -> Literal["empty", "all", "other", "undecided"]:
    """Whether a regex matches no string, every string, or some but not others.

    A gold with an "empty" language is trivial: any contradiction equals it. 312 of the 2,000 test regexes of
    NL-RX-SYNTH are trivial. The scores on non-trivial golds leave out only these; the 86 that match every string stay.

    Raises:
        ValueError: The regex cannot be read.
    """
    verdicts = [regex_equivalent(regex, other) for other in ("~(.*)", ".*")]
    if "equal" in verdicts:
        return "empty" if verdicts[0] == "equal" else "all"
    return "undecided" if "undecided" in verdicts else "other"


class _LimitReachedError(Exception):
    """A decision would take more steps, or deeper expressions, than allowed."""


@dataclass(frozen=True, eq=False, slots=True)
class _Expression:
    r"""One node. Nodes are compared by identity: `_Expressions` creates equal ones once.

    `empty_at` are the contexts in which it matches the empty span; `sees_context` says whether it contains `\b`.
    """

    kind: Kind
    operands: tuple["_Expression", ...]
    symbols: int  # of "characters": a set of indices into the alphabet, as bits
    low: int
    high: int | None
    empty_at: int
    sees_context: bool
    depth: int
    serial: int


class _Expressions:
    """All expressions over one alphabet, each created once; their derivatives; the remaining steps.

    A symbol of the alphabet is a range of characters that no set in the programs divides; symbol i begins at
    `starts[i]`. Intersection is expressed by union and complement (De Morgan).
    """

    def __init__(self, programs: Iterable[Sequence[Instruction]], max_steps: int):
        ranges = {pair for program in programs for instruction in program for pair in instruction.ranges}
        edges = {edge for first, last in ranges.union(WORD_RANGES) for edge in (first, last + 1)}
        self.starts = sorted({0, *edges} - {LAST_CODE_POINT + 1})
        self.all_symbols = (1 << len(self.starts)) - 1
        self.steps_left = max_steps
        self.made: dict[tuple, _Expression] = {}
        self.derivatives: dict[tuple[_Expression, int, bool], _Expression] = {}
        self.partitions: dict[_Expression, frozenset[int]] = {}
        self.word = self.symbols_of(WORD_RANGES)
        self.nothing = self._make("characters")
        self.empty_word = self._make("concatenation")
        self.everything = self._make("repeat", [self._make("characters", symbols=self.all_symbols)], high=None)

    def spend(self, num_steps: int) -> None:
        self.steps_left -= num_steps
        if self.steps_left < 0:
            raise _LimitReachedError

    def symbols_of(self, ranges: Iterable[tuple[int, int]]) -> int:
        symbols = 0
        for first, last in ranges:
            self.spend(1 + len(self.starts) // 64)
            symbols |= (1 << bisect_right(self.starts, last)) - (1 << bisect_right(self.starts, first) - 1)
        return symbols

    def build(self, program: Iterable[Instruction]) -> _Expression:
        """The expression of a postfix program."""
        stack: list[_Expression] = []
        for step in program:
            split = len(stack) - step.num_operands
            operands = stack[split:]
            del stack[split:]
            if step.kind == "characters":
                symbols = self.symbols_of(step.ranges)
                result = self._make("characters", symbols=symbols ^ self.all_symbols if step.negated else symbols)
            elif step.kind == "boundary":
                result = self._make("boundary")
            elif step.kind == "repeat":
                result = self.repeat(operands[0], step.low, step.high)
            elif step.kind == "complement":
                result = self.complement(operands[0])
            elif step.kind == "concatenation":
                result = self.concatenation(operands)
            elif step.kind == "union":
                result = self.union(operands)
            else:
                result = self.complement(self.union([self.complement(operand) for operand in operands]))
            stack.append(result)
        return stack[0]

    def _make(
        self,
        kind: Kind,
        operands: Sequence[_Expression] = (),
        symbols: int = 0,
        low: int = 0,
        high: int | None = 0,
    ) -> _Expression:
        """The only expression with these parts, which the methods below have simplified."""
        self.spend(1 + len(operands) + len(self.starts) // 64)
        key = (kind, tuple(operands), symbols, low, high)
        if key not in self.made:
            depth = 1 + max((operand.depth for operand in operands), default=0)
            if depth > MAX_DEPTH:
                raise _LimitReachedError
            empty_at = {"concatenation": EVERYWHERE, "boundary": AT_BOUNDARY}.get(kind, NOWHERE)
            for operand in operands:
                empty_at = empty_at | operand.empty_at if kind != "concatenation" else empty_at & operand.empty_at
            if kind == "complement":
                empty_at ^= EVERYWHERE
            elif kind == "repeat" and low == 0:
                empty_at = EVERYWHERE
            sees_context = kind == "boundary" or any(operand.sees_context for operand in operands)
            self.made[key] = _Expression(*key, empty_at, sees_context, depth, serial=len(self.made))
        return self.made[key]

    def complement(self, operand: _Expression) -> _Expression:
        if operand is self.nothing:
            return self.everything
        if operand is self.everything:
            return self.nothing
        return operand.operands[0] if operand.kind == "complement" else self._make("complement", [operand])

    def union(self, operands: Iterable[_Expression]) -> _Expression:
        """A flat union: sets of characters are joined; other parts are unique, in the order of creation."""
        symbols, parts = 0, set()
        for operand in operands:
            for part in operand.operands if operand.kind == "union" else (operand,):
                self.spend(1)
                if part.kind == "characters":
                    symbols |= part.symbols
                else:
                    parts.add(part)
        if self.everything in parts or any(part.kind == "complement" and part.operands[0] in parts for part in parts):
            return self.everything
        if any(part.empty_at == EVERYWHERE for part in parts - {self.empty_word}):
            parts.discard(self.empty_word)
        if symbols or not parts:
            parts.add(self._make("characters", symbols=symbols))
        return parts.pop() if len(parts) == 1 else self._make("union", sorted(parts, key=lambda part: part.serial))

    def concatenation(self, operands: Iterable[_Expression]) -> _Expression:
        """A flat concatenation, with x*x* simplified to x*."""
        parts: list[_Expression] = []
        for operand in operands:
            for part in operand.operands if operand.kind == "concatenation" else (operand,):
                self.spend(1)
                if part is self.nothing:
                    return self.nothing
                if not (parts and part is parts[-1] and is_star(part)):
                    parts.append(part)
        return parts[0] if len(parts) == 1 else self._make("concatenation", parts)

    def repeat(self, operand: _Expression, low: int, high: int | None) -> _Expression:
        if high == 0 or operand is self.empty_word:
            return self.empty_word
        if operand.empty_at == EVERYWHERE:
            low = 0
        if operand is self.nothing:
            return self.nothing if low else self.empty_word
        if (low, high) == (1, 1) or is_star(operand):
            return operand
        return self._make("repeat", [operand], low=low, high=high)

    def derivative(self, expression: _Expression, symbol: int, before: bool) -> _Expression:
        """The derivative by a character of `symbol`; `before` says whether a word character precedes it."""
        key = (expression, symbol, before and expression.sees_context)
        if key not in self.derivatives:
            self.spend(1)
            self.derivatives[key] = self._derive(*key)
        return self.derivatives[key]

    def _derive(self, expression: _Expression, symbol: int, before: bool) -> _Expression:
        here = 1 << (2 * before + (self.word >> symbol & 1))
        operands = expression.operands
        if expression.kind == "characters":
            return self.empty_word if expression.symbols >> symbol & 1 else self.nothing
        if expression.kind == "boundary":
            return self.nothing
        if expression.kind == "complement":
            return self.complement(self.derivative(operands[0], symbol, before))
        if expression.kind == "union":
            return self.union([self.derivative(operand, symbol, before) for operand in operands])
        if expression.kind == "repeat":
            # Copies that match the empty span here may come first, as many as are asked for.
            low = 0 if operands[0].empty_at & here else max(expression.low - 1, 0)
            high = None if expression.high is None else expression.high - 1
            return self.concatenation(
                [self.derivative(operands[0], symbol, before), self.repeat(operands[0], low, high)]
            )
        alternatives = []
        for index, operand in enumerate(operands):
            rest = operands[index + 1 :]
            alternatives.append(self.concatenation([self.derivative(operand, symbol, before), *rest]))
            if not operand.empty_at & here:
                break
        return self.union(alternatives)

    def partition(self, expression: _Expression) -> frozenset[int]:
        r"""A partition of the symbols: derivatives by the symbols of one set are equal.

        If the expression contains `\b`, this holds separately for word characters and for the others.
        """
        if expression not in self.partitions:
            blocks = frozenset([self.all_symbols])
            if expression.kind == "characters":
                blocks = frozenset([expression.symbols, expression.symbols ^ self.all_symbols]) - {0}
            for operand in expression.operands:
                blocks = self.refine(blocks, self.partition(operand))
                if expression.kind == "concatenation" and not operand.empty_at:
                    break
            self.partitions[expression] = blocks
        return self.partitions[expression]

    def refine(self, blocks: frozenset[int], others: frozenset[int]) -> frozenset[int]:
        self.spend(len(blocks) * len(others))
        return frozenset(block & other for block in blocks for other in others) - {0}

    def find_difference(self, first: _Expression, second: _Expression) -> str | None:
        """A shortest string that only one of the two matches; None if they match the same strings."""
        start = (first, second, False)
        came_from: dict[tuple[_Expression, _Expression, bool], tuple | None] = {start: None}
        waiting = deque([start])
        while waiting:
            state = waiting.popleft()
            left, right, before = state
            if (left.empty_at ^ right.empty_at) >> 2 * before & 1:
                return self.spell(state, came_from)
            blocks = self.refine(self.partition(left), self.partition(right))
            if left.sees_context or right.sees_context:
                blocks = self.refine(blocks, frozenset([self.word, self.word ^ self.all_symbols]))
            for block in sorted(blocks):
                symbol = block.bit_length() - 1
                new_left = self.derivative(left, symbol, before)
                new_right = self.derivative(right, symbol, before)
                sees_context = new_left.sees_context or new_right.sees_context
                new = (new_left, new_right, sees_context and bool(self.word >> symbol & 1))
                self.spend(1)
                if new_left is not new_right and new not in came_from:
                    came_from[new] = (block, state)
                    waiting.append(new)
        return None

    def spell(self, state: tuple, came_from: dict) -> str:
        """A string that leads from the start to a state, with legible characters where possible."""
        characters: list[str] = []
        while came_from[state] is not None:
            block, state = came_from[state]
            legible = (c for c in LEGIBLE if block >> bisect_right(self.starts, ord(c)) - 1 & 1)
            characters.append(next(legible, chr(self.starts[block.bit_length() - 1])))
        return "".join(reversed(characters))


def is_star(expression: _Expression) -> bool:
    return expression.kind == "repeat" and (expression.low, expression.high) == (0, None)
