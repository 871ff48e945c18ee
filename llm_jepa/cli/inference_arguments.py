"""The arguments of commands that answer. Imports nothing heavy."""

import argparse
from pathlib import Path

from llm_jepa.cli.argument_types import (
    DECODINGS,
    DTYPES,
    GENERATION_METHODS,
    NEW_TOKENS,
    SHORTLIST,
    at_least,
    decodings,
    drafted_tokens,
    margin,
    utf8,
)
from llm_jepa.inference.export_checks import EXPORT_TARGETS

ANSWERS_PER_QUERY = 5


def answer(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "llm-jepa answer RUN --index DIR [--query TEXT | --queries FILE] [options]\n"
        "       llm-jepa answer RUN --image FILE [--query TEXT | --queries FILE] [--candidates FILE] [options]"
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a run, or of what was merged or pulled")
    parser.add_argument("--index", type=Path, metavar="DIR", help="where the index of answers is")
    parser.add_argument(
        "--image", type=Path, nargs="+", metavar="FILE", help="of a VL-JEPA run: a picture, or the frames of a video"
    )
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help="of a VL-JEPA run: text file with an answer per line; without it the run's text decoder writes",
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--query", type=utf8, metavar="TEXT", help="what to answer")
    asked.add_argument("--queries", type=Path, metavar="FILE", help="text file with a query per line")
    parser.add_argument(
        "--answers", metavar="FILE", help="builds the index: text file with an answer per line, or data with a column"
    )
    parser.add_argument("--answers_column", metavar="COLUMN", help="column of --answers, a file or Hub id of data")
    parser.add_argument("--answers_split", metavar="SPLIT", help="of these data (default: train)")
    parser.add_argument("--add", type=Path, metavar="FILE", help="text file with an answer per line, for the index")
    parser.add_argument(
        "--delete", type=Path, metavar="FILE", help="text file with an answer per line, to leave the index"
    )
    parser.add_argument(
        "--top", type=at_least(1), metavar="K", help=f"answers per query (default: {ANSWERS_PER_QUERY})"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object per query")


def generate(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa generate RUN --prompt TEXT [options]"
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a run, or of what was merged or pulled")
    parser.add_argument(
        "--prompt",
        dest="prompts",
        type=utf8,
        action="append",
        required=True,
        metavar="TEXT",
        help="a source; may be repeated",
    )
    parser.add_argument("--stream", action="store_true", help="print the text as it comes")
    parser.add_argument("--json", action="store_true", help="print a JSON object per prompt")
    parser.add_argument(
        "--decoding",
        choices=GENERATION_METHODS,
        default="draft",
        help="draft: the latent predictor proposes tokens; prompt_lookup: the prompt does (default: draft)",
    )
    parser.add_argument("--max_new_tokens", type=at_least(1), default=128, metavar="N", help="(default: 128)")
    add_drafting(parser)
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: that of training)")


def export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a run, or of what was merged or pulled")
    parser.add_argument(
        "--to",
        choices=EXPORT_TARGETS,
        required=True,
        help="vllm: a drafter for its method eagle; sentence-transformers: an embedder, for sources and targets",
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: that of training)")


def latency(parser: argparse.ArgumentParser) -> None:
    parser.usage = "llm-jepa latency RUN|RECIPE [options] [--key value ...]"
    parser.epilog = "Every key of the run's recipe can be overridden: --dataset_test_split 'test[:500]'."
    parser.add_argument("recipe", metavar="RUN|RECIPE", help="directory of a run, or the recipe that made one")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures (default: latency.json in the run)")
    parser.add_argument("--max_rows", type=at_least(1), default=24, metavar="N", help="held-out rows (default: 24)")
    parser.add_argument(
        "--max_new_tokens",
        type=at_least(1),
        metavar="N",
        help=f"limit of a text (default: {NEW_TOKENS}; of a run on pictures its `max_answer_tokens`)",
    )
    add_drafting(parser)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="choose from a text file with a label per line")
    parser.add_argument(
        "--shortlist", type=at_least(1), metavar="K", help=f"candidates of a shortlist (default: {SHORTLIST})"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: that of training)")


def add_drafting(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--num_drafted_tokens",
        type=drafted_tokens,
        metavar="N|auto",
        help="per forward; auto drafts as many as pay, and none where it does not pay (default: auto)",
    )
    parser.add_argument(
        "--draft_vocabulary",
        type=at_least(1),
        metavar="N",
        help="draft the N most frequent tokens of the training's targets (default: 2048)",
    )


def add_decodings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ways to answer, of the tuned model")
    group.add_argument(
        "--decoding",
        type=decodings,
        metavar="NAME[,NAME]",
        help=f"{','.join(DECODINGS)}: from a row's choices, from --labels, or from all targets; or "
        f"{','.join(GENERATION_METHODS)}: generated, each beside plain",
    )
    add_drafting(group)
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
