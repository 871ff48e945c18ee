"""The arguments of commands that answer. Imports nothing heavy."""

import argparse
from pathlib import Path

from llm_jepa.cli.argument_types import DECODINGS, SHORTLIST, at_least, decodings, margin


def answer(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa answer RUN --index DIR [--query TEXT | --queries FILE] [options]"
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a run, or of what was merged or pulled")
    parser.add_argument("--index", type=Path, required=True, metavar="DIR", help="where the index of answers is")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--query", metavar="TEXT", help="what to answer")
    asked.add_argument("--queries", type=Path, metavar="FILE", help="text file with a query per line")
    parser.add_argument(
        "--answers", metavar="FILE", help="builds the index: text file with an answer per line, or data with a column"
    )
    parser.add_argument(
        "--answers_column", "--answers-column", metavar="COLUMN", help="column of --answers, a file or Hub id of data"
    )
    parser.add_argument(
        "--answers_split", "--answers-split", default="train", metavar="SPLIT", help="of these data (default: train)"
    )
    parser.add_argument("--top", type=at_least(1), default=5, metavar="K", help="answers per query (default: 5)")
    parser.add_argument("--json", action="store_true", help="print a JSON object per query")


def add_decodings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("answers chosen from candidates, of the tuned model")
    group.add_argument(
        "--decoding",
        type=decodings,
        metavar="NAME[,NAME]",
        help=f"how: {','.join(DECODINGS)}; from a row's choices, from --labels, or from all targets",
    )
    group.add_argument(
        "--shortlist", type=at_least(1), metavar="K", help=f"candidates of a shortlist (default: {SHORTLIST})"
    )
    group.add_argument("--labels", type=Path, metavar="FILE", help="text file with a label per line")
    group.add_argument(
        "--fallback_margin",
        type=margin,
        metavar="MARGIN|auto",
        help="generate where the two nearest are closer than this; auto chooses it on --dev_split",
    )
    group.add_argument("--dev_split", metavar="SPLIT", help="rows that are not tested: 'train[-200:]'")
