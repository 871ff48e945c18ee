"""A recipe -> what it will cost: tokens, FLOPs of every arm, memory of a device, hours and money."""

from dataclasses import dataclass
from typing import Any

from transformers.training_args import OptimizerNames

from llm_jepa.devices import GIB, GPU
from llm_jepa.planning.estimate import Estimate, hours_at_peak, hours_at_rate
from llm_jepa.planning.memory import Launch, states
from llm_jepa.planning.workload import SFT, Workload, arm_recipes, draw_workload
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.schedule import planned_steps

RESERVED_BYTES = 1.5 * GIB
"""Of a GPU's memory: the driver's context, and what an allocator loses to fragments."""

RECIPE = "this recipe"
FITS = "fits"


@dataclass(frozen=True)
class ArmPlan:
    """One arm.

    Attributes:
        tokens_per_row, detached_tokens_per_row: That reach the model with gradient, and without; means.
        flops_per_step: Of an optimizer step on all devices, loss dropout at its expectation.
        ratio: Of them to SFT's.
        hours: Of the whole training; None where nothing is known of the device's speed.
    """

    tokens_per_row: float
    detached_tokens_per_row: float
    flops_per_step: float
    ratio: float
    hours: Estimate | None


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one device when it holds most.

    Attributes:
        peak: Of three micro-batches: a usual one, the largest of those drawn, the longest rows together.
        by_kind: The expected ones: weights, gradients, optimizer, activations, logits, communication.
    """

    peak: Estimate
    by_kind: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What a recipe will cost.

    Attributes:
        rows: That are kept of the training data; `is_sample` if they were counted on a sample.
        view_tokens: Sequence -> mean tokens of a row.
        memory: On one device.
        activation_bytes: Layout -> the recipe's activations in it.
        verdict: Whether a device has room for it; None without a GPU.
    """

    rows: int
    is_sample: bool
    layout: str
    steps: int
    view_tokens: dict[str, float]
    arms: dict[str, ArmPlan]
    memory: MemoryPlan
    activation_bytes: dict[str, float]
    verdict: str | None


def make_plan(
    recipe: Recipe,
    gpu: GPU | None = None,
    num_devices: int = 1,
    launch: Launch = "single",
    seconds_per_step: float | None = None,
) -> Plan:
    """Plan a recipe.

    Args:
        seconds_per_step: Of the recipe on one device, as calibrated; else the usual shares of the GPU's peak are
            assumed.
    """
    own = draw_workload(recipe, launch, gpu is not None)
    rows = round(own.prepared.total_rows * len(own.prepared.rows) / own.prepared.num_rows)
    steps = planned_steps(rows, recipe, num_devices)

    def hours(flops_per_step: float) -> Estimate | None:
        flops = flops_per_step * steps / num_devices
        if seconds_per_step is not None:
            return hours_at_rate(flops, step_flops(own, 1, sft_flops) / seconds_per_step)
        return None if gpu is None else hours_at_peak(flops, _peak_rate(own, gpu))

    arms: dict[str, ArmPlan] = {}
    sft_flops = None
    for name, arm in {**arm_recipes(recipe), RECIPE: recipe}.items():
        drawn = own if arm is recipe else draw_workload(arm, launch, gpu is not None)
        flops = step_flops(drawn, num_devices, sft_flops)
        sft_flops = flops if name == SFT else sft_flops
        assert sft_flops is not None, "SFT is the first arm"
        arms[name] = ArmPlan(*drawn.tokens_per_row(), flops, flops / sft_flops, hours(flops))
    memory = plan_memory(own, launch, num_devices)
    return Plan(
        rows=rows,
        is_sample=own.prepared.is_partial,
        layout=own.prepared.layout_reason,
        steps=steps,
        view_tokens=_view_tokens(own),
        arms=arms,
        memory=memory,
        activation_bytes=_activations_by_layout(own, launch, num_devices),
        verdict=None if gpu is None else verdict(memory, gpu),
    )


def step_flops(drawn: Workload, num_devices: int, sft_flops: float | None) -> float:
    """FLOPs of an optimizer step on all devices; a step that drops the JEPA term is one of SFT."""
    args = drawn.recipe.training
    flops = drawn.flops() * args.gradient_accumulation_steps * num_devices
    if args.jepa_weight == 0 or args.jepa_dropout == 0:
        return flops
    assert sft_flops is not None
    return (1 - args.jepa_dropout) * flops + args.jepa_dropout * sft_flops


def plan_memory(drawn: Workload, launch: Launch, num_devices: int) -> MemoryPlan:
    """The peak of one device's memory."""
    usual, largest = drawn.batches[len(drawn.batches) // 2], drawn.batches[-1]
    peaks = [peak_bytes(drawn, rows, launch, num_devices) for rows in (usual, largest, drawn.longest_rows())]
    low, expected, high = sorted(peaks, key=lambda peak: sum(peak.values()))
    return MemoryPlan(Estimate(*(sum(peak.values()) for peak in (low, expected, high))), expected)


def peak_bytes(drawn: Workload, rows: list[dict[str, Any]], launch: Launch, num_devices: int) -> dict[str, float]:
    """What one device holds when it holds most of a micro-batch, by kind."""
    is_half = drawn.model.half is not None
    optim = OptimizerNames(drawn.recipe.training.optim).value
    kept = states(drawn.model.weights(), optim, launch, num_devices, is_half)
    lasting = {"weights": kept.weights, "optimizer": kept.optimizer, "communication": kept.communication}
    return lasting | drawn.model.peak_bytes(drawn.inputs(rows), kept.gradient_share)


def room_bytes(gpu: GPU) -> float:
    """What tensors may take of a GPU."""
    return gpu.memory_bytes - RESERVED_BYTES


def verdict(memory: MemoryPlan, gpu: GPU) -> str:
    """Whether a GPU has room."""
    room = room_bytes(gpu)
    if memory.peak.high <= room:
        return FITS
    return "does not fit" if memory.peak.expected > room else "fits, unless the longest rows meet in one micro-batch"


def _peak_rate(drawn: Workload, gpu: GPU) -> float:
    return gpu.single_flops_per_second if drawn.model.half is None else gpu.half_flops_per_second


def _view_tokens(drawn: Workload) -> dict[str, float]:
    """Mean tokens of a row's conversation, its labels, and its views where it has some."""
    rows = drawn.prepared.rows
    columns = {"conversation": "input_ids", "source": "source_ids", "target": "target_ids"}
    means: dict[str, float] = {}
    for name, column in columns.items():
        if column in rows.column_names:
            means[name] = sum(map(len, rows[column])) / len(rows)
    means["labels"] = sum(sum(label != -100 for label in labels) for labels in rows["labels"]) / len(rows)
    return means


def _activations_by_layout(drawn: Workload, launch: Launch, num_devices: int) -> dict[str, float]:
    """Activations of the largest micro-batch, in the layout that the recipe gets and in rows."""
    args = drawn.recipe.training
    own = drawn.prepared.collator.layout
    if args.jepa_weight == 0 or args.jepa_objective != "pair" or own is None:
        return {}
    found: dict[str, float] = {}
    for name in dict.fromkeys((own.name, "rows")):
        settings: dict[str, Any] = drawn.recipe.settings | {"jepa_layout": name}
        other = draw_workload(build_recipe(drawn.recipe.path, settings), launch, True)
        found[name] = other.model.peak_bytes(other.inputs(other.batches[-1]))["activations"]
    return found
