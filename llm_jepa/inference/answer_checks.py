"""What `llm-jepa answer` refuses by looking at its files. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_jepa.data.source import check_data_set
from llm_jepa.inference.candidates import check_added, check_deleted, read_answers, read_texts, stripped
from llm_jepa.inference.index_files import (
    check_made_by,
    check_new_index,
    has_index,
    read_answers_of,
    read_index_facts,
)
from llm_jepa.models.decoder_files import has_text_decoder, no_text_decoder
from llm_jepa.models.latent_predictor import check_has_views, predictor_digest, read_facts
from llm_jepa.models.local_files import MODEL_CONFIG, artifact_kind
from llm_jepa.models.weights_digest import weights_digest
from llm_jepa.runs.record import read_json


def check_queries(query: str | None, queries: Path | None, changes_index: bool) -> None:
    """Check that there is something to do, and that no query is empty.

    Args:
        changes_index: Whether an index is to be built or changed.

    Raises:
        ValueError: There is neither a query nor an index to build or change, or a query is empty.
    """
    if query is None and queries is None and not changes_index:
        raise ValueError("There is nothing to answer. Give `--query TEXT`, or `--queries FILE`.")
    if query is not None and not query.strip():
        raise ValueError("`--query` is empty. Give a text.")
    if queries is not None:
        read_texts(queries, "query")


def check_picture_question(
    run: Path, images: Sequence[Path] | None, has_query: bool, candidates: Path | None, others: Mapping[str, object]
) -> None:
    """Check what a VL-JEPA run is asked.

    Args:
        others: Names and values of the options that ask runs on text.

    Raises:
        ValueError: The run sees and there is no picture, or it is blind and there is one, or it reads one and there
            are several; a file is missing; there is nothing to choose from and no text decoder; or an option has no
            effect.
    """
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"`--{name}` has no effect on a run of VL-JEPA. Leave it out.")
    config = read_json(run / MODEL_CONFIG)
    sees_images = config.get("sees_images", True)
    if sees_images and images is None:
        raise ValueError(f"`{run}` answers questions on pictures. Give `--image FILE`.")
    if not sees_images and images is not None:
        raise ValueError(f"`{run}` was trained on questions alone. Leave out `--image`.")
    if not sees_images and not has_query:
        raise ValueError(f"`{run}` was trained on questions alone. Give `--query TEXT`.")
    if images is not None and len(images) > 1 and config.get("num_frames", 1) == 1:
        raise ValueError(f"`{run}` reads one picture (`num_frames: 1`), and `--image` names {len(images)}. Give one.")
    for image in images or ():
        if not image.is_file():
            raise ValueError(f"`--image {image}`: there is no such file (looked in {Path.cwd()}).")
    if candidates is not None:
        read_answers(candidates)
    elif not has_text_decoder(run):
        raise ValueError(f"{no_text_decoder(run)} Or give answers to choose from: `--candidates FILE`.")


def check_index(run: Path, index: Path, answers: str | None, column: str | None, split: str | None) -> None:
    """Check that a run can answer from an index, or build it. The answers of a column are compared once they are read.

    Args:
        answers, column, split: What `--answers`, `--answers_column` and `--answers_split` name.

    Raises:
        ValueError: The run has no model or no latent predictor; the index is damaged, another run's, or of other
            answers than those given; there is none and no answers are given; or an option has no effect.
    """
    artifact_kind(run)
    facts = read_facts(run)
    check_has_views(facts)
    if column is not None and answers is None:
        raise ValueError("`--answers_column` has no effect without `--answers`. Name the data there.")
    if split is not None and column is None:
        raise ValueError("`--answers_split` has no effect without `--answers_column`. Name one.")
    if answers is not None and column is not None:
        check_data_set(answers)
    given = read_answers(Path(answers)) if answers is not None and column is None else None
    if has_index(index):
        made = read_index_facts(index)
        check_made_by(made, weights_digest(run), predictor_digest(run), facts.width, str(index))
        if given is not None:
            check_same_answers(index, given, str(answers))
        return
    if answers is None:
        raise ValueError(f"`{index}` holds no index of answers. Give `--answers FILE` to build one there.")
    check_new_index(index)


def check_same_answers(index: Path, given: Sequence[str], name: str) -> None:
    """Check that an index has the answers that are given, in their order.

    Args:
        name: The file or data set of those given.

    Raises:
        ValueError: It has others.
    """
    if given != read_answers_of(index):
        raise ValueError(
            f"The index `{index}` has other answers than `{name}`. Leave `--answers` out, or name a new directory."
        )


def check_changes(index: Path, answers: str | None, added: Path | None, deleted: Path | None) -> None:
    """Check that answers can be added to an index and deleted from it.

    Raises:
        ValueError: There is no index, its answers are given anew, or as `check_added` and `check_deleted` raise.
    """
    if added is None and deleted is None:
        return
    if answers is not None:
        raise ValueError("`--add` and `--delete` change an index, and `--answers` builds one. Leave one out.")
    known = read_answers_of(index)
    to_add = [] if added is None else read_answers(added)
    to_delete = [] if deleted is None else read_answers(deleted)
    both = stripped(to_add) & stripped(to_delete)
    if both:
        raise ValueError(f"`--add` and `--delete` both have the answer {min(both)[:60]!r}. Leave it out of one.")
    if to_add:
        check_added(known, to_add)
    if to_delete:
        check_deleted([*known, *to_add], to_delete)
