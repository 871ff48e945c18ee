"""Writes the dataset card: a header for the Hub and `datasets`, and a text for readers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from llm_jepa.files.cache import sha256_of
from llm_jepa.preparers.data_set import DataSet
from llm_jepa.preparers.splits import SPLIT_NAMES, SplitCounts
from llm_jepa.preparers.upstream import Input


def card_header(licence: str, languages: Sequence[str], task_categories: Sequence[str], splits: Sequence[str]) -> str:
    """The YAML header between `---` lines, with one configuration: each split is the file `SPLIT.jsonl`."""
    content = {
        "license": licence,
        **({"language": list(languages)} if languages else {}),
        "task_categories": list(task_categories),
        "configs": [
            {"config_name": "default", "data_files": [{"split": name, "path": f"{name}.jsonl"} for name in splits]}
        ],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---\n"


def write_card(
    directory: Path,
    data_set: DataSet,
    inputs: Sequence[Input],
    counts: Mapping[str, SplitCounts],
    settings: Mapping[str, object],
) -> None:
    """Write `README.md` beside the splits.

    Args:
        directory: The directory of the splits.
        data_set: The data set.
        inputs: The files that the rows were made of.
        counts: Split -> counts of its rows, in the order of precedence.
        settings: The options that determine the rows; None or False for an option that was not given.
    """
    written = [name for name in SPLIT_NAMES if name in counts and counts[name].num_written]
    options = "".join(_option(name, value) for name, value in settings.items())
    tables = [
        _table(
            ("file", "rows", "sha256"),
            [(f"{name}.jsonl", counts[name].num_written, sha256_of(directory / f"{name}.jsonl")) for name in written],
        ),
        _table(("column", "meaning"), list(data_set.columns.items())),
        _table(
            ("made of", "published at", "sha256", "checksum"),
            [(one.path.name, one.location or "", one.sha256, one.verdict) for one in inputs],
        )
        if inputs
        else "",
        _table(("split", *_COUNTED), [_counts_row(name, counts) for name in counts]),
    ]
    text = (
        card_header(data_set.licence, data_set.languages, data_set.task_categories, written)
        + f"\n# {data_set.title}\n\n{data_set.description}\n\nSource: {data_set.source}\n\n"
        + f"Licence: {data_set.licence_text}\n\n"
        + f"Made by `python data/{data_set.name}.py --output_dir DIR{options}`.\n\n"
        + "\n".join(table for table in tables if table)
        + f"\n{_precedence(list(counts), data_set.overlap_text)}"
        + f"Repeated rows of one split {'stay' if data_set.keep_duplicates else 'were left out'}.\n"
        + _left_out_before_split(counts)
    )
    (directory / "README.md").write_text(text, encoding="utf-8")


def _option(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" --{name}" if value is True else f" --{name} {value}"


_COUNTED = ("received", "written", "repeated rows", "left out: overlap", "left out: incomplete", "left out: other")


def _counts_row(split: str, counts: Mapping[str, SplitCounts]) -> tuple[object, ...]:
    one = counts[split]
    overlaps = ", ".join(f"{number} with {other}" for other, number in one.overlaps.items()) or 0
    others = ", ".join(f"{number} {reason}" for reason, number in one.left_out.items()) or 0
    return split, one.num_received, one.num_written, one.num_duplicates, overlaps, one.num_incomplete, others


def _left_out_before_split(counts: Mapping[str, SplitCounts]) -> str:
    numbers = {split: one.num_left_out_before_split for split, one in counts.items() if one.num_left_out_before_split}
    return "".join(
        f"{number} rows were left out before the split; they are counted with `{split}`.\n"
        for split, number in numbers.items()
    )


def _precedence(order: Sequence[str], overlap_text: str) -> str:
    rule = " yields to ".join(f"`{name}`" for name in reversed(order))
    return f"No two splits share {overlap_text}. Precedence: {rule}.\n" if len(order) > 1 else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
