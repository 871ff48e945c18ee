"""Time whole training steps of every arm against TRL's SFTTrainer, on the same rows, alternating, in one process.

    python benchmarks/step_cost.py --output step_cost.json
    python benchmarks/step_cost.py --scaling length --method full --batch_size 1 --output length.json

A step lasts from one `on_step_end` to the next: data, collation, forward, backward, clipping, optimizer, logging. In
each round every arm starts from the same weights with a fresh trainer, and its step i has the rows of SFT's step i,
which is checked; the order of the arms rotates from round to round. benchmarks/README.md explains the table.
"""

import argparse
import gc
import itertools
import json
import logging
import multiprocessing
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from arms import ARMS, ASKED_ARMS, BASELINE, DROPOUT, LABELLED, load_model, lora_of, new_trainer, prepared_rows
from counting import batch_digest, count_step, with_own_flops
from datasets import Dataset
from peft import get_peft_model
from step_cost_report import Round, commit, hardware, summarise, table, versions
from transformers import TrainerCallback
from trl import SFTTrainer

from llm_jepa.compute.flops import model_size
from llm_jepa.models.known_models import resolve_model
from llm_jepa.models.loading import load_tokenizer
from llm_jepa.objectives.draws import is_dropped

SCALED = {
    "length": ("length", [64, 128, 256, 512, 1024, 2048, 4096]),
    "batch": ("batch_size", [1, 2, 4, 8, 16, 32, 64]),
    "predictor_tokens": ("num_predictor_tokens", [0, 1, 2, 4, 8, 16]),
}
"""What `--scaling` varies, and through which values."""
SCALING_ARMS = [BASELINE, "alone", "prefix_sg"]
MEMORY_STEPS = 3
PATHS = ("model", "data", "output")


class StepClock(TrainerCallback):
    """Notes when each step ends, its work on the device done."""

    def __init__(self, device: str):
        self.device = device
        self.step_ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the clock."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.step_ends.append(time.perf_counter())


def main(argv: list[str] | None = None) -> None:
    """Measure what the command line asks for."""
    options = parse_options(argv)
    silence()
    gc.freeze()  # collections then look at trainers alone, and not at every module of every library
    report: dict[str, Any] = {
        "arguments": {key: _without_directory(key, value) for key, value in vars(options).items()},
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
        "tables": [],
    }
    options.model_path = resolve_model(options.model)
    with tempfile.TemporaryDirectory() as options.output_dir:
        for point in points(options):
            tokenizer = load_tokenizer(point.model_path)
            rows = prepared_rows(point, tokenizer)
            for method in point.method:
                measured = measure(point, method, rows)
                report["tables"].append(measured)
                print(table(measured), flush=True)
                options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    """The command line, its values checked against each other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="known model, directory or Hub id")
    parser.add_argument(
        "--from_scratch", action="store_true", help="random weights; of the model, config and tokenizer"
    )
    parser.add_argument("--data", help="JSONL with `messages`, or see --source_column; default: generated NL-RX")
    parser.add_argument("--source_column")
    parser.add_argument("--target_column")
    parser.add_argument("--method", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), help="default: see benchmarks/README.md")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of an arm in a round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max_length", type=int, default=512, help="longer rows are left out, in every arm")
    parser.add_argument("--num_predictor_tokens", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--attn_implementation", help="default: what transformers chooses")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--torch_compile_backend", help="compile the model with it, e.g. inductor; default: do not")
    parser.add_argument("--use_liger_kernel", action="store_true")
    parser.add_argument("--keep_going", action="store_true", help="leave an arm out that fails, and note its error")
    parser.add_argument("--scaling", choices=list(SCALED), help="random tokens; one table for each value")
    parser.add_argument("--values", type=int, nargs="+", help="values for --scaling instead of its own")
    parser.add_argument("--length", type=int, default=256, help="tokens of a conversation with --scaling")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no_memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--output", type=Path, default=Path("step_cost.json"), help="JSON; written after each table")
    options = parser.parse_args(argv)
    if options.arms is None:
        options.arms = SCALING_ARMS if options.scaling else [arm for arm in ARMS if arm not in ASKED_ARMS]
    error = _conflict(options)
    if error is not None:
        parser.error(error)
    return options


def _conflict(options: argparse.Namespace) -> str | None:
    """What is wrong with the command line, if anything is."""
    if BASELINE not in options.arms:
        return f"--arms {' '.join(options.arms)} has no {BASELINE}, which all others are compared with; add it"
    for name, least in (("warmup", 1), ("steps", 2), ("rounds", 1), ("batch_size", 1), ("length", 4)):
        if (value := getattr(options, name)) < least:
            return f"--{name} is {value}; it must be at least {least}"
    if options.scaling and options.data:
        return "--data has no effect with --scaling, whose rows are random; leave one of them out"
    if options.values and not options.scaling:
        return "--values has no effect without --scaling"
    if min(options.values or [1]) < (0 if options.scaling == "predictor_tokens" else 1):
        return f"--values are {options.values}; lengths and batches begin at 1, predictor tokens at 0"
    if bool(options.source_column) != bool(options.target_column):
        return "--source_column and --target_column name the two columns of the data; give both or neither"
    if options.source_column and not options.data:
        return "--source_column has no effect without --data"
    if options.device == "cuda" and not torch.cuda.is_available():
        return "--device cuda: PyTorch sees no GPU here; use --device cpu"
    return None


def silence() -> None:
    """Nothing but tables on the screen."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("llm_jepa").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", UserWarning)


def points(options: argparse.Namespace) -> list[argparse.Namespace]:
    """One set of options for each value of what is scaled, or the options alone."""
    if options.scaling is None:
        return [options]
    name, values = SCALED[options.scaling]
    return [argparse.Namespace(**vars(options) | {name: value}) for value in options.values or values]


def measure(options: argparse.Namespace, method: str, rows: dict[str, Dataset]) -> dict[str, Any]:
    """All arms of one table: the peak of their memory, then round by round their steps."""
    has_memory = not options.no_memory
    peaks = fresh_peaks(options, method, rows) if has_memory and options.device == "cpu" else {}
    rounds, errors = timed_rounds(options, method, rows)
    if has_memory and options.device == "cuda":
        peaks = {arm: max(one["peak_memory_bytes"] for one in of_arm) for arm, of_arm in rounds.items()}
    model, lora = load_model(options, method), lora_of(method)
    size = model_size(get_peft_model(model, lora) if lora else model)
    names = ["batch_size", "length", "num_predictor_tokens"] if options.scaling else ["batch_size"]
    return {
        "setting": {"method": method} | {name: getattr(options, name) for name in names},
        "model_size": asdict(size),
        "arms": {
            arm: {
                "settings": ARMS[arm],
                "summary": summarise(rounds[arm], rounds[BASELINE], rounds.get(LABELLED), size, _dropout(arm)),
                "peak_memory_bytes": peaks.get(arm),
                "rounds": rounds[arm],
            }
            for arm in rounds
        },
        "errors": errors,
    }


def timed_rounds(
    options: argparse.Namespace, method: str, rows: dict[str, Dataset]
) -> tuple[dict[str, list[Round]], dict[str, str]]:
    """Every arm once in every round, the one that begins changing from round to round.

    A few steps go before, which are not counted: the first ones of a process fetch its kernels and its memory.

    Returns:
        The rounds of each arm, and the errors of those that were left out.
    """
    num_steps = options.warmup + options.steps
    seeds = mixed_seeds(options.seed, range(options.warmup, num_steps))
    rounds: dict[str, list[Round]] = {arm: [] for arm in options.arms}
    errors: dict[str, str] = {}
    run_round(BASELINE, rows[BASELINE], options, method, options.seed, options.warmup + 1)
    for number, seed in enumerate(itertools.islice(seeds, options.rounds)):
        first = number % len(options.arms)
        for arm in options.arms[first:] + options.arms[:first]:
            if arm in errors:
                continue
            print(f"{method}, round {number + 1} of {options.rounds}: {arm}", file=sys.stderr, flush=True)
            try:
                rounds[arm].append(run_round(arm, rows[arm], options, method, seed, num_steps))
            except Exception as error:
                if arm == BASELINE or not options.keep_going:
                    raise
                errors[arm] = f"{type(error).__name__}: {error}"
                del rounds[arm]
            free_memory(options.device)
        for arm, of_arm in rounds.items():
            is_same = of_arm[-1]["batches"] == rounds[BASELINE][-1]["batches"]
            assert is_same, f"the steps of {arm} did not have the rows of SFT's"
    return rounds, errors


def mixed_seeds(first: int, steps: range) -> Iterator[int]:
    """Seeds, from the first on, with which loss dropout drops some of these steps and keeps some."""
    for seed in itertools.count(first):
        if len({is_dropped(seed, step, DROPOUT) for step in steps}) == 2:
            yield seed


def run_round(
    arm: str, dataset: Dataset, options: argparse.Namespace, method: str, seed: int, num_steps: int
) -> Round:
    """Train an arm for some steps, and tell what those after the warm-up cost and held."""
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock = StepClock(options.device)
    settings = {
        "output_dir": options.output_dir,
        "seed": seed,
        "max_steps": num_steps,
        "torch_compile_backend": options.torch_compile_backend,
        "use_liger_kernel": options.use_liger_kernel,
    }
    tokenizer, model = load_tokenizer(options.model_path), load_model(options, method)
    trainer = new_trainer(arm, model, dataset, tokenizer, options, lora_of(method), [clock], **settings)
    batches = kept_batches(trainer)
    trainer.train()
    step_inputs = batches[:num_steps]  # one more may have been fetched ahead
    assert len(step_inputs) == len(clock.step_ends) == num_steps
    layout = getattr(trainer, "layout", None)
    timed = range(options.warmup, num_steps)
    dropped = [is_dropped(seed, step, _dropout(arm)) for step in timed]
    objective, size = getattr(trainer, "objective", None), model_size(trainer.model)
    counts = [count_step(step_inputs[i], flag) for i, flag in zip(timed, dropped, strict=True)]
    result = {
        "seed": seed,
        "layout": None if layout is None else type(layout).__name__,
        "seconds": [clock.step_ends[step] - clock.step_ends[step - 1] for step in timed],
        "is_dropped": dropped,
        "batches": [batch_digest(step_inputs[step]) for step in timed],
        "counts": [asdict(with_own_flops(one, objective, size)) for one in counts],
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if options.device == "cuda" else None,
    }
    del trainer, batches, step_inputs, model  # with the optimizer, which must not be there beside the next arm's
    free_memory(options.device)
    return result


def free_memory(device: str) -> None:
    """Give back what trainers have left behind, compiled code too: so much of it is kept, and no more is compiled."""
    torch.compiler.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def kept_batches(trainer: SFTTrainer) -> list[dict[str, Any]]:
    """A list that will hold the batch of each step, as it was collated in the host's memory, to be looked at later."""
    batches: list[dict[str, Any]] = []
    collate = trainer.data_collator

    def keep(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(rows)
        batches.append(dict(batch))
        return batch

    trainer.data_collator = keep
    return batches


def fresh_peaks(options: argparse.Namespace, method: str, rows: dict[str, Dataset]) -> dict[str, int]:
    """`peak_resident_bytes` of every arm, each in a process of its own."""
    peaks = {}
    for arm in options.arms:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=silence) as fresh:
            peaks[arm] = fresh.submit(peak_resident_bytes, arm, rows[arm], options, method).result()
    return peaks


def peak_resident_bytes(arm: str, dataset: Dataset, options: argparse.Namespace, method: str) -> int:
    """The most memory that this process ever had in RAM, after a few steps of an arm in it and nothing else.

    By Linux's VmHWM. `getrusage` would not do: its maximum survives `exec`, and so would be that of the parent.
    """
    steps = range(MEMORY_STEPS)  # of which loss dropout drops none
    seed = next(n for n in itertools.count(options.seed) if not any(is_dropped(n, step, DROPOUT) for step in steps))
    run_round(arm, dataset, options, method, seed, MEMORY_STEPS)
    (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kibibytes)


def _dropout(arm: str) -> float:
    return ARMS[arm].get("jepa_dropout", 0.0)


def _without_directory(key: str, value: Any) -> Any:
    """Of a path its last component: where things lie on a machine is nobody's business."""
    return Path(value).name if key in PATHS and value is not None else value


if __name__ == "__main__":
    main()
