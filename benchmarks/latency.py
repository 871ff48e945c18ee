"""Times the answers of a run: plain greedy decoding, drafted tokens (fixed numbers and adaptive), and prompt lookup.

    python benchmarks/latency.py RUN --output latency.json [--rows 24] [--num_drafted 2 3 4 6 8]

One process and one model: each prompt is answered by every method in turn, in an order that rotates. Prefill counts.
"""

import argparse
import importlib.metadata
import platform
from pathlib import Path

import torch
import transformers

from llm_jepa.data.prompts import prompt_ids
from llm_jepa.evaluation.generation_latency import measure_generation
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.files.atomic import write_json
from llm_jepa.inference.draft_length import AdaptiveLength, DraftLength, FixedLength
from llm_jepa.inference.drafting import DRAFT_VOCABULARY, Drafter
from llm_jepa.inference.packed_linear import pack_linear_layers
from llm_jepa.inference.text_generation import TextGenerator
from llm_jepa.inference.tuned_model import load_tuned
from llm_jepa.models.subject import read_subject
from llm_jepa.runs.record import toolkit_commit


def main() -> None:
    args = _arguments()
    transformers.utils.logging.disable_progress_bar()
    recipe, _ = read_subject(str(args.run), args.overrides, None)
    _, tokenizer, model = load_tuned(args.run, args.dtype)
    pack_linear_layers(model)
    rows = load_rows(recipe, tokenizer, args.rows)
    prompts = [prompt_ids(tokenizer, row.prompt, row.template_kwargs) for row in rows]
    lengths: dict[str, DraftLength] = {f"draft {number}": FixedLength(number) for number in args.num_drafted}
    lengths["draft auto"] = AdaptiveLength()
    generators = {"plain": TextGenerator(model, tokenizer, "plain", args.max_new_tokens)}
    for name, length in lengths.items():
        drafter = Drafter.from_predictor(args.run, model, tokenizer, args.draft_vocabulary, length)
        generators[name] = TextGenerator(model, tokenizer, "draft", args.max_new_tokens, drafter)
    generators["prompt lookup"] = TextGenerator(model, tokenizer, "prompt_lookup", args.max_new_tokens)
    results = measure_generation(generators, prompts, progress=lambda number: print(".", end="", flush=True))
    reports = {name: result.report() for name, result in results.items()}
    print("\n\n" + _table(reports))
    gold = [row.gold.strip() for row in rows]
    num_right = sum(text.text.strip() == one for text, one in zip(results["plain"].texts, gold, strict=True))
    print(f"\nexact answers: {num_right} of {len(rows)}")
    write_json({"environment": _environment(args), "exact": num_right, "methods": reports}, args.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="output directory of a run with a drafter")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--rows", type=int, default=24, metavar="N", help="held-out rows (default: 24)")
    parser.add_argument("--num_drafted", type=int, nargs="+", default=[2, 3, 4, 6, 8], metavar="N")
    parser.add_argument("--draft_vocabulary", type=int, default=DRAFT_VOCABULARY, metavar="N")
    parser.add_argument("--max_new_tokens", type=int, default=96, metavar="N")
    parser.add_argument("--dtype", default="float32")
    args, args.overrides = parser.parse_known_args()
    return args


def _table(reports: dict[str, dict]) -> str:
    lines = [
        "| method | seconds per answer (quartiles) | times faster, all answers | per answer (quartiles) "
        "| tokens per second | per forward | same text | accepted at 1, 2, ... |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in reports.items():
        low, middle, high = one["seconds_per_answer"]
        first, ratio, third = one["times_faster_per_answer"]
        accepted = " ".join(f"{100 * share:.0f}" for share in one["acceptance"])
        lines.append(
            f"| {name} | {middle:.2f} ({low:.2f}-{high:.2f}) | {one['times_faster']:.2f} "
            f"| {ratio:.2f} ({first:.2f}-{third:.2f}) | {one['tokens_per_second']:.1f} "
            f"| {one['tokens_per_forward']:.2f} | {one['same_text']} of {one['answers']} | {accepted} |"
        )
    return "\n".join(lines)


def _environment(args: argparse.Namespace) -> dict:
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl", "llm-jepa")},
        "commit": toolkit_commit(),
        "rows": args.rows,
        "max_new_tokens": args.max_new_tokens,
        "dtype": args.dtype,
        "draft_vocabulary": args.draft_vocabulary,
    }


if __name__ == "__main__":
    main()
