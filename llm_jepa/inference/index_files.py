"""The files of an index of answers. Imports no torch.

    DIR/index.json            what the index is, and the names and sizes of its other files; written last
    DIR/answers-3.jsonl       a JSON string per line
    DIR/embeddings-3.npy      embedding_ND, rows of length 1, float32
    DIR/neighbours-3.usearch  above 100,000 answers

Each save writes files of a new number, then replaces `index.json`, then removes the others. A killed save leaves the
index as it was. Legend: N answers, D the width.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_jepa.files.atomic import write_json
from llm_jepa.files.text_lines import read_lines
from llm_jepa.runs.record import read_json

INDEX_FILE = "index.json"
FORMAT = 1
DATA_FILE = re.compile(r"(answers|embeddings|neighbours)-\d+\.(jsonl|npy|usearch)")
BUILD_AGAIN = "Name another directory, and give `--answers` to build its index."


@dataclass(frozen=True)
class IndexFacts:
    """What an index is.

    Attributes:
        checkpoint, predictor: Digests of the weights and of the latent predictor that made its embeddings.
        width: The dimension of an embedding.
        count: The number of answers.
    """

    checkpoint: str
    predictor: str
    width: int
    count: int


def has_index(directory: Path) -> bool:
    """Whether a directory holds an index."""
    return (directory / INDEX_FILE).is_file()


def read_index_facts(directory: Path) -> IndexFacts:
    """What the index in a directory is; its files are there in full.

    Raises:
        ValueError: There is no index, it is of another format, or a file is missing or truncated.
    """
    content = _content(directory)
    for name, size_bytes in content["files"].items():
        path = directory / name
        found = path.stat().st_size if path.is_file() else None
        if found != size_bytes:
            state = "is missing" if found is None else f"is not whole: it has {found} bytes, not {size_bytes}"
            raise ValueError(f"`{path}` {state}. Copy the index again. {BUILD_AGAIN}")
    return IndexFacts(**content["facts"])


def check_made_by(facts: IndexFacts, checkpoint: str, predictor: str, width: int, name: str) -> None:
    """Check that an index has embeddings of this model and predictor.

    Raises:
        ValueError: It is of another one.
    """
    for what, other in (
        (f"embeddings of width {facts.width}; the model has {width}", facts.width != width),
        ("embeddings of another checkpoint", facts.checkpoint != checkpoint),
        ("embeddings by another latent predictor", facts.predictor != predictor),
    ):
        if other:
            raise ValueError(f"The index `{name}` has {what}. {BUILD_AGAIN}")


def check_new_index(directory: Path) -> None:
    """Check that an index may be written to a directory without one.

    Raises:
        ValueError: It is a file, or holds other files.
    """
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"`{directory}` is a file. Name a directory for the index.")
    others = [path.name for path in directory.glob("*") if not DATA_FILE.fullmatch(path.name)]
    if others and not has_index(directory):
        raise ValueError(f"`{directory}` holds {others[0]} and no index. Name a new directory for the index.")


def read_answers_of(directory: Path) -> list[str]:
    """The answers of an index, in order."""
    return [json.loads(line) for line in read_lines(directory / _name(_content(directory), "answers"))]


def open_embeddings(directory: Path) -> NDArray:
    """The embeddings of an index, mapped into memory: embedding_ND."""
    return np.load(directory / _name(_content(directory), "embeddings"), mmap_mode="r")


def open_neighbours(directory: Path) -> Any:
    """The neighbours of a large index, mapped into memory; None for a small one."""
    name = _name(_content(directory), "neighbours")
    return None if name is None else usearch_index().restore(str(directory / name), view=True)


def write_index(
    directory: Path, facts: IndexFacts, answers: Sequence[str], embedding_ND: NDArray, neighbours: Any
) -> None:
    """Write an index, in place of the one that is there if there is one.

    Raises:
        ValueError: The directory holds other files and no index.
    """
    check_new_index(directory)
    directory.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(name.partition("-")[2].partition(".")[0]) for name in _data_files(directory)), default=0)
    names = [f"answers-{number}.jsonl", f"embeddings-{number}.npy"]
    lines = (json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    (directory / names[0]).write_text("".join(lines), encoding="utf-8")
    np.save(directory / names[1], embedding_ND)
    if neighbours is not None:
        names.append(f"neighbours-{number}.usearch")
        neighbours.save(str(directory / names[2]))
    files = {name: (directory / name).stat().st_size for name in names}
    write_json({"format": FORMAT, "facts": asdict(facts), "files": files}, directory / INDEX_FILE)
    for name in _data_files(directory):
        if name not in files:
            (directory / name).unlink()


def usearch_index() -> Any:
    """The class `usearch.index.Index`.

    Raises:
        ValueError: usearch is not installed.
    """
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ValueError(
            "An index of more than 100,000 answers is searched with usearch, which is not installed. Install it: pip "
            "install 'llm-jepa[index]'"
        ) from error
    return Index


def _data_files(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("*") if DATA_FILE.fullmatch(path.name)]


def _content(directory: Path) -> dict[str, Any]:
    if not has_index(directory):
        raise ValueError(f"`{directory}` holds no index of answers. Give `--answers` to build one there.")
    content = read_json(directory / INDEX_FILE)
    if content.get("format") != FORMAT:
        raise ValueError(f"`{directory / INDEX_FILE}` is no index of format {FORMAT}. {BUILD_AGAIN}")
    return content


def _name(content: dict[str, Any], kind: str) -> Any:
    return next((name for name in content["files"] if name.startswith(f"{kind}-")), None)
