"""What the decodings of `llm-jepa eval --decoding` choose from: the candidates of each held-out row, and its gold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm_jepa.evaluation.held_out_rows import HeldOutRow
from llm_jepa.inference.candidates import check_answers, read_answers


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
    positions = {label.strip(): i for i, label in enumerate(labels)}
    golds: dict[str, str] = {}
    for row in rows:
        if row.gold.strip() not in positions:
            raise ValueError(
                f"Row {row.row_index}: the gold {row.gold[:60]!r} is none of the {len(labels)} labels. Add it to "
                "`--labels`, or leave the file out to choose from all targets of the rows."
            )
        golds.setdefault(row.gold.strip(), row.gold)
    before, _, after = rows[0].gold.partition(rows[0].gold.strip())
    candidates = [golds.get(label, f"{before}{label}{after}") for label in positions]
    return CandidateTask(rows, candidates, None, [positions[row.gold.strip()] for row in rows])


def retrieval_task(rows: Sequence[HeldOutRow]) -> CandidateTask:
    """Each row chooses from the different targets of all rows; of those that differ in white space, the first.

    Raises:
        ValueError: There are fewer than two.
    """
    targets: dict[str, str] = {}
    for row in rows:
        targets.setdefault(row.gold.strip(), row.gold)
    _check_number([*targets], "The held-out rows")
    return label_task(rows, [*targets.values()])


def task_of(scorer: str, rows: Sequence[HeldOutRow], labels: Path | None) -> CandidateTask:
    """Candidates from a file of labels, from a row's own choices with `task: choice`, or from all targets.

    Args:
        scorer: The recipe's `task`.
        labels: A file with a label per line, or None.

    Raises:
        ValueError: As `label_task`, `choice_task` and `retrieval_task` do, or the file cannot be read.
    """
    if labels is not None:
        return label_task(rows, read_answers(labels))
    return choice_task(rows) if scorer == "choice" else retrieval_task(rows)


def _check_number(candidates: Sequence[str], where: str) -> None:
    if len(candidates) < 2:
        raise ValueError(f"{where}: there is one candidate, {candidates[0][:60]!r}, and nothing to choose. Give two.")
