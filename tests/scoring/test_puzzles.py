"""Paths, Countdown and mazes: every right answer counts, and each kind of wrong one does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa.scoring.countdown import is_countdown_solution, read_countdown
from llm_jepa.scoring.gold import GoldError
from llm_jepa.scoring.maze import is_maze_path, read_maze
from llm_jepa.scoring.path import is_path, read_graph

GRAPH = "a b | b d | a c | c d | d b | d e | a e ="
"""From a to e: by b or by c, or at once, as the last two say: a -> e is the question, not an edge."""


@pytest.mark.parametrize("path", ["a b d e", "a c d e", " a  c d\ne "])
def test_every_path_to_the_goal_is_right(path):
    assert is_path(path, GRAPH)


@pytest.mark.parametrize(
    "path",
    [
        "a e",  # no edge
        "d e",  # not from the start
        "a b d",  # not to the goal
        "a b d b d e",  # a node twice
        "d b a",  # against the edges
        "e d b a",
        "a b d e f",
        "a b x d e",
        "a, b, d, e",
        "a b d e =",
        "a",
        "",
    ],
)
def test_what_is_no_path_is_wrong(path):
    assert not is_path(path, GRAPH)


def test_a_start_that_is_the_goal_is_a_path_of_one_node():
    assert is_path("a", "a b | a a")
    assert not is_path("a b a", "a b | b a | a a")


def test_a_graph_is_its_edges_and_two_ends():
    assert read_graph(GRAPH) == (
        {("a", "b"), ("b", "d"), ("a", "c"), ("c", "d"), ("d", "b"), ("d", "e")}, "a", "e"
    )  # fmt: skip


@pytest.mark.parametrize("source", ["", "a b", "a b | c", "a b c | a c", "a b | b c |", "a b || a b"])
def test_what_is_no_graph_is_the_golds_fault(source):
    with pytest.raises(GoldError, match="is no graph; write edges"):
        is_path("a b", source)


PUZZLE = "25 7 3 3 | 57 ="


@pytest.mark.parametrize(
    "expression", ["( 25 - 7 ) * 3 + 3", "3+3*(25-7)", "((25 - 7) * 3) + 3", "3 - 3 * (7 - 25)", "  (25-7)*3+3\n"]
)
def test_an_expression_of_the_targets_value_is_right(expression):
    assert is_countdown_solution(expression, PUZZLE)


def test_not_every_number_need_be_used_and_fractions_are_exact():
    assert is_countdown_solution("8 / (3 - 8 / 3)", "3 3 8 8 | 24")
    assert is_countdown_solution("5", "5 9 | 5")
    assert is_countdown_solution("1 / 3 * 3", "1 3 3 | 1")
    assert not is_countdown_solution("10000000000000001 - 1", "10000000000000001 1 | 10000000000000001"), "as floats"


@pytest.mark.parametrize(
    "expression",
    [
        "25 + 7 * 3",  # another value
        "(25 - 7) * 3 + 1 + 1 + 1",  # a number that is not given
        "7 * 7 + 3 + 3 + 25 / 25 + 1",  # a number more often than given
        "3 * 3 * 7 - 3 - 3",
        "57",
        "(25 - 7) * 3 + 3 = 57",
        "25 - 7 * 3 + 3",  # without the parentheses
        "-(7 - 25) * 3 + 3",  # a sign
        "+25 + 25 + 7",
        "25 7",
        "3 ** 3",
        "25 // 7",
        "25 (7)",
        "25 - 7) * 3 + 3",
        "7 / (3 - 3)",
        "25.0 + 7",
        "5_7",
        "025 + 7",
        "x",
        "()",
        "",
        "(" * 5000 + "25" + ")" * 5000,
        "9" * 5000,
    ],
)
def test_what_is_no_solution_is_wrong(expression):
    assert not is_countdown_solution(expression, PUZZLE)


def test_an_operator_of_python_is_none_of_the_four():
    assert not is_countdown_solution("3 ** 2", "3 2 | 9")
    assert not is_countdown_solution("7 // 2", "7 2 | 3")
    assert not is_countdown_solution("-3", "3 | 3")
    assert not is_countdown_solution("- 3 + 6", "3 6 | 3")


def test_a_puzzle_is_numbers_and_a_target():
    assert read_countdown(PUZZLE) == ([25, 7, 3, 3], 57)


@pytest.mark.parametrize("source", ["", "25 7", "25 7 | ", " | 7", "25 | 7 8", "2.5 | 3", "a | 3", "1 | 2 | 3"])
def test_what_is_no_puzzle_is_the_golds_fault(source):
    with pytest.raises(GoldError, match="is no puzzle; write whole numbers"):
        is_countdown_solution("25", source)


MAZE = "S . . / . # . / . . G ="


@pytest.mark.parametrize("moves", ["R R D D", "D D R R", " R\nR D  D "])
def test_every_way_through_a_maze_is_right(moves):
    assert is_maze_path(moves, MAZE)


@pytest.mark.parametrize(
    "moves",
    [
        "R D D R",  # through a wall
        "U R R D D",  # out of the drawing
        "L",
        "R R D",  # not to the goal
        "R R D D L",  # past it
        "R L R R D D",  # a square twice
        "R R D D U D",
        "RRDD",
        "r r d d",
        "R R D D =",
        "",
    ],
)
def test_what_does_not_lead_to_the_goal_is_wrong(moves):
    assert not is_maze_path(moves, MAZE)


def test_a_maze_is_its_free_squares_and_two_ends():
    assert read_maze("S . / # G") == ({(0, 0), (0, 1), (1, 1)}, (0, 0), (1, 1))


@pytest.mark.parametrize("source", ["", "S .", ". G", "S S G", "S x G", "SG", "S G G"])
def test_what_is_no_maze_is_the_golds_fault(source):
    with pytest.raises(GoldError, match="is no maze; draw it with"):
        is_maze_path("R", source)


@given(st.text(alphabet="0123+-*/() \n", max_size=12))
@settings(max_examples=50)
def test_no_text_is_more_than_wrong(prediction):
    assert is_countdown_solution(prediction, PUZZLE) in (False, True)
