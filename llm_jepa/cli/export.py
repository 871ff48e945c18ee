"""Write a run's latent predictor for a server: a drafter for vLLM, or an embedder for sentence-transformers."""

import argparse
import json

import datasets
import transformers

from llm_jepa.inference.drafter_export import export_drafter
from llm_jepa.inference.embedder_export import export_embedder
from llm_jepa.models.local_files import artifact_kind


def run(args: argparse.Namespace) -> int:
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    if args.to == "vllm":
        export_drafter(args.run, args.output_dir, args.dtype)
        print(f"Drafter: {args.output_dir}")
        print(_serving(args))
    else:
        export_embedder(args.run, args.output_dir, args.dtype)
        print(f"Embedder: {args.output_dir}")
        print(f"SentenceTransformer({str(args.output_dir)!r}).encode(texts, prompt_name='source')  # or 'target'")
    return 0


def _serving(args: argparse.Namespace) -> str:
    model, before = args.run, ""
    if artifact_kind(args.run) == "adapter":
        model = f"{args.run}-merged"
        before = f"llm-jepa merge {args.run} --output_dir {model}\n"
    config = json.dumps({"method": "eagle", "model": str(args.output_dir), "num_speculative_tokens": 2})
    return f"{before}vllm serve {model} --speculative-config '{config}'"
