"""Publish an adapter or a model on the Hub, with its recipe and a model card; private unless asked."""

import argparse

from huggingface_hub.utils import disable_progress_bars

from llm_jepa.hub.push import push


def run(args: argparse.Namespace) -> int:
    disable_progress_bars()
    done = push(
        args.directory,
        args.repo_id,
        private=not args.public,
        base_model=args.base_model,
        dataset_id=args.dataset_id,
        without_predictor=args.without_predictor,
    )
    print(f"{'Public' if args.public else 'Private'}: {done.url}")
    for name in done.files:
        print(f"  {name}")
    return 0
