"""Which candidates a row chooses from, and what is refused."""

import pytest

from llm_jepa.evaluation.candidate_task import choice_task, label_task, retrieval_task
from llm_jepa.evaluation.held_out_rows import HeldOutRow


def row(gold: str, index: int = 0, choices: tuple[str, ...] = ()) -> HeldOutRow:
    return HeldOutRow(index, index, f"question {index}", {}, f"question {index}", gold, None, choices)


def test_choices_are_a_rows_own_and_each_text_is_one_candidate():
    task = choice_task([row("b", 0, ("a", "b")), row("b", 1, ("b", "c"))])
    assert (task.candidates, task.own, task.gold) == (["a", "b", "c"], [[0, 1], [1, 2]], [1, 0])
    assert task.of_row(1) == ["b", "c"]


def test_labels_are_shared_and_so_are_the_different_targets():
    rows = [row("yes", 0), row("no", 1), row("yes", 2)]
    task = label_task(rows, ["no", "perhaps", "yes"])
    assert (task.own, task.gold) == (None, [2, 0, 2])
    assert task.of_row(0) == ["no", "perhaps", "yes"]


def test_labels_have_the_white_space_of_the_golds_and_without_a_gold_that_of_the_first_row():
    rows = [row(" yes ", 0), row("\nno", 1), row("yes", 2)]
    task = label_task(rows, ["no", "  perhaps", "yes"])
    assert (task.candidates, task.gold) == (["\nno", " perhaps ", " yes "], [2, 0, 2])


def test_targets_are_told_apart_by_their_letters_and_keep_the_white_space_of_training():
    task = retrieval_task([row(" no", 1), row("yes", 2)], ["\nperhaps", " yes", " no", "yes"])
    assert (task.candidates, task.gold) == (["\nperhaps", " yes", " no"], [2, 1])


@pytest.mark.parametrize(("make", "message"), [
    (lambda: label_task([row("maybe", 7)], ["yes", "no"]), "Row 7: the gold 'maybe' is none of the 2 labels"),
    (lambda: label_task([row("a")], ["a", "a "]), "`--labels`: answers 1 and 2 are the same"),
    (lambda: label_task([row("a")], ["a"]), "there is one candidate, 'a', and nothing to choose"),
    (lambda: retrieval_task([row("a")], ["a", "a"]), "there is one candidate, 'a', and nothing to choose"),
    (lambda: choice_task([row("a", 3, ("a", "b", "a"))]), "Row 3: answers 0 and 2 are the same"),
])  # fmt: skip
def test_what_is_nothing_to_choose_from_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
