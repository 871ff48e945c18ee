"""The scores of each task, and how a generated text is scored.

Every task has five scores: `strict`, `prefix`, `contains`, `stopped` (a stop token ended the text) and `capped` (the
limit of new tokens did). Read them together: a gain in `strict` only is a gain in stopping. With `extract: fence`
there is also `strict_extracted`, and the task's own scores are of what is extracted. The task's own scores are:

regex   equivalent (the same language), equivalent_nontrivial (of golds that do not denote the empty language)
math    math_strict (the number after ####), math_flexible (the last number)
qa      qa_match (normalised; golds are separated by `; `)
sql     sql_result (the same result on the row's database)
path, countdown, maze  solved (the answer solves what the row's source asks; other answers than the gold may)
choice  acc, acc_norm (the gold is the most likely of the row's choices; per character)

A fault of the prediction counts as wrong. A fault of the gold (`GoldError`) leaves the row out of the task's scores.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from llm_jepa.scoring.choice import ChoiceLikelihoods, check_choices, is_chosen
from llm_jepa.scoring.countdown import is_countdown_solution
from llm_jepa.scoring.exact import is_contained, is_prefix_match, is_strict_match
from llm_jepa.scoring.extraction import Extract, extracted
from llm_jepa.scoring.gold import GoldError, GoldProblem
from llm_jepa.scoring.math_answer import gold_answer, is_flexible_math_match, is_strict_math_match
from llm_jepa.scoring.maze import is_maze_path
from llm_jepa.scoring.path import is_path
from llm_jepa.scoring.qa import normalise_golds, qa_match
from llm_jepa.scoring.regex_language import language_kind, regex_equivalent
from llm_jepa.scoring.regex_syntax import read_regex
from llm_jepa.scoring.sql_execution import same_result
from llm_jepa.scoring.wilson import wilson_interval

Task = Literal["text", "regex", "math", "qa", "sql", "choice", "path", "countdown", "maze"]
TASKS: tuple[Task, ...] = get_args(Task)
EXACT_SCORES = ("strict", "prefix", "contains", "stopped", "capped")
TASK_SCORES: dict[Task, tuple[str, ...]] = {
    "text": (),
    "regex": ("equivalent", "equivalent_nontrivial"),
    "math": ("math_strict", "math_flexible"),
    "qa": ("qa_match",),
    "sql": ("sql_result",),
    "choice": ("acc", "acc_norm"),
    "path": ("solved",),
    "countdown": ("solved",),
    "maze": ("solved",),
}
EXTRACTED_SCORES: dict[Extract, tuple[str, ...]] = {"none": (), "fence": ("strict_extracted",)}
SOLVES: dict[Task, Callable[[str, str], bool]] = {
    "path": is_path,
    "countdown": is_countdown_solution,
    "maze": is_maze_path,
}
"""Task -> whether a prediction solves what a source asks."""
STOP_SCORES = ("stopped", "capped")
"""Scores that need to know whether a stop token ended the text."""
LOWER_IS_BETTER = frozenset({"capped"})
GOLD_SEPARATOR = "; "


@dataclass(frozen=True)
class RowScores:
    """Scores of one row.

    Attributes:
        values: Score -> right or wrong; None if the score does not count the row.
        problem: Why a scorer could not decide; the row then counts as wrong. None if it could.
        gold_problem: Why the task's own scores leave the row out. None if they count it.
    """

    values: dict[str, bool | None]
    problem: str | None = None
    gold_problem: GoldProblem | None = None


@dataclass(frozen=True)
class Rate:
    """A share of rows: `hits` out of `count`."""

    hits: int
    count: int

    @property
    def fraction(self) -> float:
        """hits / count, in [0, 1]; NaN without rows."""
        return self.hits / self.count if self.count else float("nan")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `fraction` over independent rows (Wilson); None without rows."""
        return wilson_interval(self.hits, self.count) if self.count else None


def score_names(task: Task, extract: Extract = "none") -> tuple[str, ...]:
    """The scores of a task in display order."""
    return (*EXACT_SCORES, *EXTRACTED_SCORES[extract], *TASK_SCORES[task])


def score_row(
    task: Task,
    prediction: str,
    gold: str,
    stopped: bool,
    database: Path | None = None,
    likelihoods: ChoiceLikelihoods | None = None,
    gold_problem: GoldProblem | None = None,
    extract: Extract = "none",
    source: str = "",
) -> RowScores:
    """Score one generated text.

    Args:
        task: The task that the recipe names.
        prediction: The generated text without stop token.
        gold: The correct text.
        stopped: Whether a stop token ended the generation.
        database: The row's SQLite file, for `sql`.
        likelihoods: The likelihoods of the row's choices, for `choice`.
        gold_problem: Why the task's own scores leave the row out, if that is known.
        extract: What of prediction and gold the task's own scores compare.
        source: The row's source, for `path`, `countdown` and `maze`.
    """
    golds = gold.split(GOLD_SEPARATOR) if task == "qa" else [gold]
    values: dict[str, bool | None] = {
        "strict": any(is_strict_match(prediction, one) for one in golds),
        "prefix": any(is_prefix_match(prediction, one) for one in golds),
        "contains": any(is_contained(prediction, one) for one in golds),
        "stopped": stopped,
        "capped": not stopped,
    }
    prediction, gold = extracted(prediction, extract), extracted(gold, extract)
    values |= dict.fromkeys(EXTRACTED_SCORES[extract], is_strict_match(prediction, gold))
    own: dict[str, bool | None] = dict.fromkeys(TASK_SCORES[task])
    problem = None
    if gold_problem is None:
        try:
            own, problem = _task_scores(task, prediction, gold, database, likelihoods, source)
        except GoldError as error:
            gold_problem = error.problem
        except ValueError as error:
            own, problem = dict.fromkeys(TASK_SCORES[task], False), str(error)
    return RowScores({**values, **own}, problem, gold_problem)


def check_gold(task: Task, gold: str, choices: Sequence[str] = (), source: str = "") -> None:
    """Raise GoldError if the task's own scores cannot score by a gold. `gold_query_problems` checks those of `sql`."""
    if task == "regex":
        _check_regex(gold.strip())
    elif task == "math":
        gold_answer(gold)
    elif task == "qa":
        normalise_golds(gold.split(GOLD_SEPARATOR))
    elif task == "choice":
        check_choices(gold, choices)
    elif task in SOLVES and not SOLVES[task](gold, source):
        raise GoldError(
            "the gold is no solution", f"the gold {gold[:80]!r} does not solve what the source asks: {source[-80:]!r}."
        )


def left_out(rows: Sequence[RowScores]) -> dict[str, int]:
    """Reason -> how many rows the task's own scores leave out for it, the commonest first."""
    return dict(Counter(row.gold_problem.reason for row in rows if row.gold_problem is not None).most_common())


def rates(rows: Sequence[RowScores]) -> dict[str, Rate]:
    """Score -> how many of the rows it counts are right.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("There are no rows to score. Give at least one.")
    counted = {name: [row.values[name] for row in rows if row.values[name] is not None] for name in rows[0].values}
    return {name: Rate(sum(map(bool, values)), len(values)) for name, values in counted.items()}


def _task_scores(
    task: Task,
    prediction: str,
    gold: str,
    database: Path | None,
    likelihoods: ChoiceLikelihoods | None,
    source: str,
) -> tuple[dict[str, bool | None], str | None]:
    """The task's own scores, and the reason if they could not be decided."""
    if task == "regex":
        return _regex_scores(prediction.strip(), gold.strip())
    if task == "math":
        values = is_strict_math_match(prediction, gold), is_flexible_math_match(prediction, gold)
        return dict(zip(TASK_SCORES["math"], values, strict=True)), None
    if task == "qa":
        return {"qa_match": qa_match(prediction, gold.split(GOLD_SEPARATOR))}, None
    if task == "sql":
        if database is None:
            raise GoldError("the row names no database", "the row names no database.")
        comparison = same_result(prediction, gold, database)
        is_answer = comparison.outcome in ("equal", "different")
        problem = None if is_answer else f"{comparison.outcome}: {comparison.detail}"
        return {"sql_result": comparison.outcome == "equal"}, problem
    if task == "choice":
        check_choices(gold, [] if likelihoods is None else likelihoods.choices)
        assert likelihoods is not None
        values = is_chosen(gold, likelihoods, "none"), is_chosen(gold, likelihoods, "characters")
        return dict(zip(TASK_SCORES["choice"], values, strict=True)), None
    if task in SOLVES:
        check_gold(task, gold, source=source)
        return {"solved": SOLVES[task](prediction, source)}, None
    return {}, None


def _regex_scores(prediction: str, gold: str) -> tuple[dict[str, bool | None], str | None]:
    _check_regex(gold)
    is_nontrivial = language_kind(gold) != "empty"
    try:
        verdict = regex_equivalent(prediction, gold)
        problem = "the two regexes could not be compared within the limit" if verdict == "undecided" else None
    except ValueError as error:
        verdict, problem = "different", f"the prediction cannot be read: {error}"
    is_equal = verdict == "equal"
    return {"equivalent": is_equal, "equivalent_nontrivial": is_equal if is_nontrivial else None}, problem


def _check_regex(gold: str) -> None:
    try:
        read_regex(gold)
    except ValueError as error:
        raise GoldError("the gold regex cannot be read", f"The gold {gold!r} cannot be read: {error}") from error
