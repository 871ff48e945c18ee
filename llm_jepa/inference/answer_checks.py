"""What `llm-jepa answer` refuses by looking at its files. Imports no torch."""

from pathlib import Path

from llm_jepa.data.source import check_data_set
from llm_jepa.inference.candidates import read_answers, read_texts
from llm_jepa.inference.index_files import (
    check_made_by,
    check_new_index,
    has_index,
    read_answers_of,
    read_index_facts,
)
from llm_jepa.models.latent_predictor import check_has_views, predictor_digest, read_facts
from llm_jepa.models.local_files import artifact_kind
from llm_jepa.models.weights_digest import weights_digest


def check_queries(query: str | None, queries: Path | None, answers: str | None) -> None:
    """Check that there is something to do, and that no query is empty.

    Raises:
        ValueError: There is neither a query nor an index to build, or a query is empty.
    """
    if query is None and queries is None and answers is None:
        raise ValueError("There is nothing to answer. Give `--query TEXT`, or `--queries FILE`.")
    if query is not None and not query.strip():
        raise ValueError("`--query` is empty. Give a text.")
    if queries is not None:
        read_texts(queries, "query")


def check_index(run: Path, index: Path, answers: str | None, column: str | None) -> None:
    """Check that a run can answer from an index, or build it.

    Raises:
        ValueError: The run has no model or no latent predictor; the index is damaged, another run's, or of other
            answers than those given; or there is none and no answers are given.
    """
    artifact_kind(run)
    facts = read_facts(run)
    check_has_views(facts)
    if column is not None and answers is None:
        raise ValueError("`--answers_column` has no effect without `--answers`. Name the data there.")
    if answers is not None and column is not None:
        check_data_set(answers)
    given = read_answers(Path(answers)) if answers is not None and column is None else None
    if has_index(index):
        made = read_index_facts(index)
        check_made_by(made, weights_digest(run), predictor_digest(run), facts.width, str(index))
        if given is not None and given != read_answers_of(index):
            raise ValueError(
                f"The index `{index}` has other answers than `{answers}`. Leave `--answers` out, or name a new "
                "directory."
            )
        return
    if answers is None:
        raise ValueError(f"`{index}` holds no index of answers. Give `--answers FILE` to build one there.")
    check_new_index(index)
