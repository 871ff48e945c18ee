"""The program of every script in `data/`: its options, its steps, its report."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llm_jepa.entry import cleaned_up_at_sigterm, entry_point
from llm_jepa.files.cache import sha256_of
from llm_jepa.files.staged import staged_directory
from llm_jepa.preparers.data_set import DataSet, Inputs, describe_own_files
from llm_jepa.preparers.dataset_card import write_card
from llm_jepa.preparers.splits import SPLIT_NAMES, SplitCounts, SplitWriter
from llm_jepa.preparers.upstream import find_inputs

FILES = (*(f"{name}.jsonl" for name in SPLIT_NAMES), "README.md")
CHECK_SETTINGS = ("unchecked", "skip_incomplete")


def run(data_set: DataSet, arguments: Sequence[str] | None = None) -> list[str]:
    """Prepare a data set by its command line, and return the lines to print.

    The files appear in `--output_dir` at once, when all of them are complete.
    """
    options = _parser(data_set).parse_args(arguments)
    with entry_point(), cleaned_up_at_sigterm():
        return prepare(data_set, options)


def prepare(data_set: DataSet, options: argparse.Namespace) -> list[str]:
    """Find the inputs, write the splits and the card, and return a report in lines.

    Raises:
        ValueError: An input is missing or is not the published one, a row is incomplete, `train` is empty, or the
            output directory holds other data.
    """
    with staged_directory(options.output_dir, (*FILES, *data_set.more_files)) as staging:
        inputs = _find_inputs(data_set, options)
        if inputs and all(one.location is None for one in inputs.values()):
            data_set = describe_own_files(data_set)
        writer = SplitWriter(
            staging, data_set.overlap, data_set.keep_duplicates, getattr(options, "skip_incomplete", False)
        )
        splits = data_set.make_splits(inputs, options)
        counts = {
            split: writer.write(split, rows(), is_last=number == len(splits))
            for number, (split, rows) in enumerate(splits.items(), start=1)
        }
        if not counts["train"].num_written:
            summary = _summary("train", counts["train"], data_set.keep_duplicates)
            raise ValueError(f"No row is left for `train`: {summary}.")
        settings = {name: getattr(options, name, None) for name in (*data_set.settings, *CHECK_SETTINGS)}
        write_card(staging, data_set, list(inputs.values()), counts, settings)
        if data_set.write_more is not None:
            data_set.write_more(staging, inputs, options)
        checksums = {split: sha256_of(staging / f"{split}.jsonl") for split, one in counts.items() if one.num_written}
    return [
        *(f"{one.path.name}: {one.verdict}" for one in inputs.values()),
        *(
            _summary(split, counts[split], data_set.keep_duplicates)
            + f"; sha256 {checksums.get(split, 'none: no file')[:16]}"
            for split in SPLIT_NAMES
            if split in counts
        ),
    ]


def _parser(data_set: DataSet) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{data_set.name}.py", description=f"Prepares {data_set.title}.")
    parser.add_argument("--output_dir", type=Path, required=True, help="a new or empty directory")
    if data_set.files or data_set.find_own_inputs is not None:
        parser.add_argument(
            "--skip_incomplete", action="store_true", help="leave out rows that lack a view, and count them"
        )
    if data_set.files:
        names = ", ".join(file.name for file in data_set.files.values())
        parser.add_argument("--input_dir", type=Path, help=f"the directory of {names}; without it they are fetched")
        parser.add_argument("--unchecked", action="store_true", help="accept files with other checksums or row counts")
    if data_set.add_arguments is not None:
        data_set.add_arguments(parser)
    return parser


def _find_inputs(data_set: DataSet, options: argparse.Namespace) -> Inputs:
    own: Inputs = data_set.find_own_inputs(options) if data_set.find_own_inputs is not None else {}
    if data_set.files and not own:
        return find_inputs(data_set.files, data_set.name, options.input_dir, options.unchecked)
    idle = [f"--{name}" for name in ("input_dir", "unchecked") if getattr(options, name, None)]
    if idle:
        raise ValueError(f"`{'` and `'.join(idle)}` would have no effect on your own files. Leave it out.")
    return own


def _summary(split: str, counts: SplitCounts, keep_duplicates: bool) -> str:
    parts = [f"{split}: {counts.num_written} of {counts.num_received} rows"]
    parts += [f"{number} left out that overlap with {other}" for other, number in counts.overlaps.items()]
    if counts.num_duplicates:
        parts.append(f"{counts.num_duplicates} repeated and {'kept' if keep_duplicates else 'left out'}")
    if counts.num_incomplete:
        shown = ", ".join(counts.incomplete) + (", ..." if counts.num_incomplete > len(counts.incomplete) else "")
        parts.append(f"{counts.num_incomplete} incomplete ({shown})")
    parts += [f"{number} {reason} left out" for reason, number in counts.left_out.items()]
    if counts.num_left_out_before_split:
        parts.append(f"{counts.num_left_out_before_split} of these left out before the split")
    return ", ".join(parts)
