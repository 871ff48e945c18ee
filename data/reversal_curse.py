"""Generates facts that are trained one way and asked the other way.

    python data/reversal_curse.py --output_dir data/reversal_curse --num_facts 1000 --both_ways_share 0.5

Nothing is downloaded. `llm_jepa.preparers.reversal` says what a fact is.
"""

import argparse

from llm_jepa.preparers.data_set import DataSet, Inputs
from llm_jepa.preparers.program import run
from llm_jepa.preparers.reversal import draw_facts
from llm_jepa.preparers.splits import Splits


def make_splits(inputs: Inputs, options: argparse.Namespace) -> Splits:
    facts = draw_facts(options.num_facts, options.both_ways_share, options.seed)
    splits = {"test": facts.test, "validation": facts.validation, "train": facts.train}
    return {split: rows.copy for split, rows in splits.items() if rows}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num_facts", type=int, default=1000, help="default 1000")
    parser.add_argument(
        "--both_ways_share", type=float, default=0.5, help="share of facts that are trained both ways (default 0.5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")


DATA_SET = DataSet(
    name="reversal_curse",
    title="The reversal curse",
    description="Facts between made-up names, of which each occurs in one fact. `train` has every fact forward "
    "(`bakodu teaches`, `mifuna`) and some of them backward too (`mifuna is taught by`, `bakodu`). `validation` and "
    "`test` ask the others backward: their names are trained, their questions are not, and no fact is in both.",
    source="generated; the task is of Berglund et al. 2023, The Reversal Curse (arXiv 2309.12288)",
    licence="apache-2.0",
    licence_text="that of the script, Apache-2.0.",
    columns={"source": "a name and a relation", "target": "the other name"},
    make_splits=make_splits,
    overlap_text="a question",
    add_arguments=add_arguments,
    settings=("num_facts", "both_ways_share", "seed"),
)

if __name__ == "__main__":
    print(*run(DATA_SET), sep="\n")
