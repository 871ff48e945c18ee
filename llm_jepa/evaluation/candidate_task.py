"""What the decodings of `llm-jepa eval --decoding` choose from: the candidates of each held-out row, and its gold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_jepa.evaluation.held_out_rows import HeldOutRow, all_targets
from llm_jepa.inference.candidates import check_answers, read_answers, stripped
from llm_jepa.recipe import Recipe


@dataclass(frozen=True)
class CandidateTask:
    """Rows, and the candidates that each chooses from.

    Attributes:
        rows: The held-out rows.
        candidates: All candidates, no two of them the same.
        own: For each row, the positions of its candidates; None if each row chooses from all.
        gold: For each row, the position of its gold among the row's candidates.
    """

    rows: Sequence[HeldOutRow]
    candidates: list[str]
    own: list[list[int]] | None
    gold: list[int]

    def of_row(self, index: int) -> list[str]:
        """The candidates of a row."""
        return self.candidates if self.own is None else [self.candidates[i] for i in self.own[index]]


def choice_task(rows: Sequence[HeldOutRow]) -> CandidateTask:
    """Each row chooses from its own choices.

    Raises:
        ValueError: A row has fewer than two choices, or one of them twice.
    """
    positions: dict[str, int] = {}
    own, gold = [], []
    for row in rows:
        check_answers(row.choices, f"Row {row.row_index}: ")
        _check_number(row.choices, f"Row {row.row_index}")
        own.append([positions.setdefault(choice, len(positions)) for choice in row.choices])
        gold.append(row.choices.index(row.gold))
    return CandidateTask(rows, list(positions), own, gold)


def label_task(rows: Sequence[HeldOutRow], labels: Sequence[str]) -> CandidateTask:
    """Each row chooses from the same labels, with the white space around them that training had.

    It is that of the first gold that is the label but for white space; of a label without gold that of the first row.

    Raises:
        ValueError: A label is empty or given twice, there are fewer than two, or a row's gold is none of them.
    """
    check_answers(labels, "`--labels`: ", first=1)
    _check_number(labels, "`--labels`")
    known = stripped(labels)
    golds: dict[str, str] = {}
    for row in rows:
        if row.gold.strip() not in known:
            raise ValueError(
                f"Row {row.row_index}: the gold {row.gold[:60]!r} is none of the {len(labels)} labels. Add it to "
                "`--labels`, or leave the file out to choose from all targets of the split."
            )
        golds.setdefault(row.gold.strip(), row.gold)
    before, _, after = rows[0].gold.partition(rows[0].gold.strip())
    return _shared_task(rows, [golds.get(label.strip(), f"{before}{label.strip()}{after}") for label in labels])


def retrieval_task(rows: Sequence[HeldOutRow], targets: Sequence[str]) -> CandidateTask:
    """Each row chooses from the same targets; of those that differ in white space, from the first.

    Args:
        targets: The golds of the rows are among them.

    Raises:
        ValueError: There are fewer than two.
    """
    different: dict[str, str] = {}
    for target in targets:
        different.setdefault(target.strip(), target)
    _check_number([*different], "The held-out rows")
    return _shared_task(rows, [*different.values()])


def task_of(recipe: Recipe, rows: Sequence[HeldOutRow], labels: Path | None) -> CandidateTask:
    """Candidates from a file of labels, a row's own choices with `task: choice`, or all targets of the split.

    Args:
        rows: Those of the recipe's `dataset_test_split`, or a sample of them.
        labels: A file with a label per line, or None.

    Raises:
        ValueError: As `label_task`, `choice_task` and `retrieval_task` do, or the file cannot be read.
    """
    if labels is not None:
        return label_task(rows, read_answers(labels))
    return choice_task(rows) if recipe.training.task == "choice" else retrieval_task(rows, all_targets(recipe, rows))


def _shared_task(rows: Sequence[HeldOutRow], candidates: list[str]) -> CandidateTask:
    positions = {candidate.strip(): i for i, candidate in enumerate(candidates)}
    return CandidateTask(rows, candidates, None, [positions[row.gold.strip()] for row in rows])


def _check_number(candidates: Sequence[str], where: str) -> None:
    if len(candidates) < 2:
        raise ValueError(f"{where}: there is one candidate, {candidates[0][:60]!r}, and nothing to choose. Give two.")
