"""What `step_cost.py` writes: the figures of each arm, a Markdown table, and where they were measured."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from counting import BatchCounts, floor

from llm_jepa.compute.devices import TERA, processor_name
from llm_jepa.compute.flops import ModelSize, step_flops

QUARTILES = (0.25, 0.5, 0.75)
MIB = 2**20
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")

Round = dict[str, Any]


def expected(values: list[float], is_dropped: list[bool], dropout: float) -> list[float]:
    """Quartiles over steps, of which an expected share was dropped: those of dropped and of kept steps, weighted.

    dropout * quartile(dropped steps) + (1 - dropout) * quartile(kept steps)
    """
    value_S, is_dropped_S = np.array(values), np.array(is_dropped)
    if is_dropped_S.all() or dropout == 0:
        return np.quantile(value_S, QUARTILES).tolist()
    dropped_Q, kept_Q = np.quantile(value_S[is_dropped_S], QUARTILES), np.quantile(value_S[~is_dropped_S], QUARTILES)
    return (dropout * dropped_Q + (1 - dropout) * kept_Q).tolist()


def summarise(
    arm: list[Round], sft: list[Round], labelled: list[Round] | None, size: ModelSize, dropout: float
) -> dict[str, Any]:
    """Figures of an arm from its rounds, those of SFT, and those of SFT with the head on labelled positions alone."""
    is_dropped = [flag for one in arm for flag in one["is_dropped"]]
    seconds = [value for one in arm for value in one["seconds"]]
    low, median, high = expected(_ratios(arm, sft), is_dropped, dropout)
    sums = [sum(one["seconds"]) / sum(other["seconds"]) for one, other in zip(arm, sft, strict=True)]
    counts, sft_counts = ([BatchCounts(**step) for one in rounds for step in one["counts"]] for rounds in (arm, sft))
    step_seconds = expected(seconds, is_dropped, dropout)[1]
    step_tokens = sum(step.conversation_tokens for step in counts) / len(counts)
    computed = sum(step.tokens + step.detached_tokens for step in counts)
    return {
        "ratio": median,
        "ratio_quartiles": [low, high],
        "ratio_of_sums": float(np.median(sums)),
        "ratio_to_labelled": None if labelled is None else expected(_ratios(arm, labelled), is_dropped, dropout)[1],
        "floor": _expected_floor(counts, sft_counts, is_dropped, size, dropout),
        "step_seconds": step_seconds,
        "tokens_per_second": step_tokens / step_seconds,
        "tflops_per_second": sum(step_flops(step, size) for step in counts) / len(counts) / step_seconds / TERA,
        "padding_share": 1 - computed / sum(step.positions for step in counts),
    }


def _ratios(arm: list[Round], other: list[Round]) -> list[float]:
    """Seconds of each step over those of the other arm's step with the same rows."""
    seconds, other_seconds = ([value for one in rounds for value in one["seconds"]] for rounds in (arm, other))
    return [mine / theirs for mine, theirs in zip(seconds, other_seconds, strict=True)]


def _expected_floor(
    arm: list[BatchCounts], sft: list[BatchCounts], is_dropped: list[bool], size: ModelSize, dropout: float
) -> float:
    def floor_of(dropped: bool) -> float:
        steps = [i for i, flag in enumerate(is_dropped) if flag == dropped]
        return floor([arm[i] for i in steps], [sft[i] for i in steps], size)

    if all(is_dropped) or dropout == 0:
        return floor(arm, sft, size)
    return dropout * floor_of(dropped=True) + (1 - dropout) * floor_of(dropped=False)


def table(measured: dict[str, Any]) -> str:
    """One table of the JSON as Markdown."""
    heading = ", ".join(f"{name} {value}" for name, value in measured["setting"].items() if value is not None)
    lines = [
        f"### {heading}",
        "",
        "| arm | ratio (quartiles) | to labelled | counted floor | s/step | tokens/s | padding | peak memory, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sft_bytes = measured["arms"]["sft"]["peak_memory_bytes"]
    for name, arm in measured["arms"].items():
        figures, peak_bytes = arm["summary"], arm["peak_memory_bytes"]
        low, high = figures["ratio_quartiles"]
        memory = "-" if peak_bytes is None else f"{peak_bytes / MIB:.0f} ({peak_bytes / sft_bytes:.2f})"
        to_labelled = "-" if figures["ratio_to_labelled"] is None else f"{figures['ratio_to_labelled']:.2f}"
        columns = [
            name,
            f"{figures['ratio']:.2f} ({low:.2f}-{high:.2f})",
            to_labelled,
            f"{figures['floor']:.2f}",
            f"{figures['step_seconds']:.3f}",
            f"{figures['tokens_per_second']:.0f}",
            f"{figures['padding_share']:.0%}",
            memory,
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def hardware() -> dict[str, Any]:
    """Processor and accelerator, by their makers' names."""
    return {
        "cpu": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions() -> dict[str, str]:
    """Of Python and the packages that a step runs through."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def commit() -> dict[str, Any] | None:
    """The checked-out commit, and whether files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None

    def output(*arguments: str) -> str | None:
        command = [git, "-C", str(Path(__file__).parent), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    head = output("rev-parse", "HEAD")
    return None if head is None else {"hash": head, "is_dirty": output("status", "--porcelain") != ""}
