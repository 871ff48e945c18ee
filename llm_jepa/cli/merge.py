"""Merge an adapter into its base: one plain model, on the CPU."""

import argparse
from pathlib import Path

import transformers

from llm_jepa.models.merging import merge

DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="RUN|ADAPTER", help="directory of a run or an adapter, or its Hub id")
    parser.add_argument(
        "--output_dir", "--output-dir", type=Path, required=True, metavar="DIR", help="a new or empty directory"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of the merged weights (default: the recipe's)")
    parser.add_argument(
        "--trust_remote_code",
        "--trust-remote-code",
        action="store_true",
        help="run code that comes with the base, whatever the recipe says",
    )


def run(args: argparse.Namespace) -> int:
    transformers.utils.logging.disable_progress_bar()
    merge(args.adapter, args.output_dir, args.dtype, args.trust_remote_code)
    print(f"Model: {args.output_dir}")
    return 0
