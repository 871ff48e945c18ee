"""Scorers: pure functions of texts, and `score_row`, which applies those of a task. Imports nothing of the package."""

from llm_jepa.scoring.choice import ChoiceLikelihoods, choose, is_chosen
from llm_jepa.scoring.countdown import is_countdown_solution
from llm_jepa.scoring.exact import is_contained, is_prefix_match, is_strict_match
from llm_jepa.scoring.extraction import EXTRACTS, Extract, extracted
from llm_jepa.scoring.gold import GoldError, GoldProblem
from llm_jepa.scoring.math_answer import is_flexible_math_match, is_strict_math_match
from llm_jepa.scoring.maze import is_maze_path
from llm_jepa.scoring.path import is_path
from llm_jepa.scoring.qa import normalise_answer, qa_match
from llm_jepa.scoring.regex_language import language_kind, regex_equivalent
from llm_jepa.scoring.sql_execution import QueryLimits, gold_query_problems, same_result
from llm_jepa.scoring.tasks import TASKS, Rate, RowScores, Task, check_gold, left_out, rates, score_names, score_row
from llm_jepa.scoring.wilson import wilson_interval

__all__ = [
    "EXTRACTS",
    "TASKS",
    "ChoiceLikelihoods",
    "Extract",
    "GoldError",
    "GoldProblem",
    "QueryLimits",
    "Rate",
    "RowScores",
    "Task",
    "check_gold",
    "choose",
    "extracted",
    "gold_query_problems",
    "is_chosen",
    "is_contained",
    "is_countdown_solution",
    "is_flexible_math_match",
    "is_maze_path",
    "is_path",
    "is_prefix_match",
    "is_strict_match",
    "is_strict_math_match",
    "language_kind",
    "left_out",
    "normalise_answer",
    "qa_match",
    "rates",
    "regex_equivalent",
    "same_result",
    "score_names",
    "score_row",
    "wilson_interval",
]
