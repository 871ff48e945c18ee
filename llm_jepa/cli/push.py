"""Publish an adapter or a model on the Hub, with its recipe and a model card; private unless asked."""

import argparse
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars

from llm_jepa.hub.push import push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="RUN|ADAPTER|MODEL", help="directory of what is published")
    parser.add_argument("--repo_id", "--repo-id", required=True, metavar="USER/NAME", help="where to publish it")
    parser.add_argument("--public", action="store_true", help="for everybody to see")
    parser.add_argument(
        "--base_model",
        "--base-model",
        metavar="HUB_ID",
        help="of an adapter whose base was a directory: where others find it",
    )
    parser.add_argument(
        "--dataset_id", "--dataset-id", metavar="HUB_ID", help="of data that were a file: where others find them"
    )


def run(args: argparse.Namespace) -> int:
    disable_progress_bars()
    done = push(
        args.directory, args.repo_id, private=not args.public, base_model=args.base_model, dataset_id=args.dataset_id
    )
    print(f"{'Public' if args.public else 'Private'}: {done.url}")
    for name in done.files:
        print(f"  {name}")
    return 0
