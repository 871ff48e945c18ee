"""Times the answers of runs as `llm-jepa latency` does, with several numbers of drafted tokens side by side.

    python benchmarks/latency.py RUN [RUN ...] --output latency.json [--rows 24] [--num_drafted 2 3 4 6 8]

One process: each prompt is answered by every method of every run in turn, in an order that rotates. Prefill counts.
A method is held against plain decoding of its own run. Prints a Markdown table for each run.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import transformers

from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.interleaving import interleave
from llm_jepa.evaluation.latency import LatencyOptions, RunWays, latency_report
from llm_jepa.evaluation.latency_report import write_latency
from llm_jepa.files.atomic import write_json
from llm_jepa.inference.draft_length import AdaptiveLength, DraftLength, FixedLength
from llm_jepa.inference.tuned_model import set_precision
from llm_jepa.models.base_and_tuned import load_checkpoints
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.models.subject import read_subject


def main() -> None:
    args = _arguments()
    transformers.utils.logging.disable_progress_bar()
    runs = {run.name: _ways_of(run, args) for run in args.runs}
    ways = {(name, way): answer for name, run in runs.items() for way, answer in run.ways.items()}
    answers = interleave(ways, range(args.rows), progress=lambda number: print(".", end="", flush=True))
    reports = {name: latency_report(run, {way: answers[name, way] for way in run.ways}) for name, run in runs.items()}
    for name, report in reports.items():
        print(f"\n\n{name}\n\n{_table(report.ways)}")
    if len(reports) == 1:
        write_latency(next(iter(reports.values())), args.output)
    else:
        write_json({name: asdict(report) for name, report in reports.items()}, args.output)


def _ways_of(run: Path, args: argparse.Namespace) -> RunWays:
    recipe, checkpoints = read_subject(str(run), args.overrides, None)
    set_precision(recipe, args.dtype)
    tokenizer = load_run_tokenizer(recipe)
    ((_, _, model),) = load_checkpoints(recipe, checkpoints[-1:], len(tokenizer))
    lengths: dict[str, DraftLength] = {f"draft {number}": FixedLength(number) for number in args.num_drafted}
    options = LatencyOptions(
        max_new_tokens=args.max_new_tokens,
        labels=args.labels,
        draft_vocabulary=args.draft_vocabulary,
        draft_lengths=lengths | {"draft auto": AdaptiveLength()},
    )
    return RunWays(recipe, model, tokenizer, load_rows(recipe, tokenizer, args.rows), options)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="output directories of runs on the same data"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--rows", type=int, default=24, metavar="N", help="held-out rows (default: 24)")
    parser.add_argument("--num_drafted", type=int, nargs="+", default=[2, 3, 4, 6, 8], metavar="N")
    parser.add_argument("--draft_vocabulary", type=int, metavar="N")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="choose from a label per line")
    parser.add_argument("--max_new_tokens", type=int, default=96, metavar="N")
    parser.add_argument("--dtype", default="float32")
    args, args.overrides = parser.parse_known_args()
    return args


def _table(ways: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| method | seconds per answer (quartiles) | times faster, all answers | per answer (quartiles) | right "
        "| tokens per second | per forward | same text | accepted at 1, 2, ... |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in ways.items():
        low, middle, high = one["seconds_per_answer"]
        first, ratio, third = one["times_faster_per_answer"]
        columns = [
            f"{name} | {middle:.3f} ({low:.3f}-{high:.3f}) | {one['times_faster']:.2f}",
            f"{ratio:.2f} ({first:.2f}-{third:.2f})",
            "" if one["right"] is None else f"{one['right']} of {one['answers']}",
        ]
        if "tokens" not in one:
            columns += [""] * 4
        else:
            accepted = " ".join(f"{100 * share:.0f}" for share in one["acceptance"])
            columns.append(f"{one['tokens_per_second']:.1f} | {one['tokens_per_forward']:.2f}")
            columns.append(f"{one['same_text']} of {one['answers']} | {accepted}")
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
