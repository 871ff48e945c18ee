"""Merge an adapter into its base: one plain model, on the CPU."""

import argparse

import transformers

from llm_jepa.models.merging import merge


def run(args: argparse.Namespace) -> int:
    transformers.utils.logging.disable_progress_bar()
    merge(args.adapter, args.output_dir, args.dtype, args.trust_remote_code, args.without_predictor)
    print(f"Model: {args.output_dir}")
    return 0
