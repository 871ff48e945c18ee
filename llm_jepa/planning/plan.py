"""Plans a recipe: tokens and FLOPs of every arm, memory of a device, hours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llm_jepa.compute.devices import GIB, GPU
from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.planning.calibration import Calibration
from llm_jepa.planning.estimate import Estimate, hours_at_peak, hours_at_rate
from llm_jepa.planning.memory import Launch
from llm_jepa.planning.workload import SFT, Workload, arm_names, draw_workload, with_arm
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.settings.objectives import needs_views
from llm_jepa.training.schedule import planned_steps, rows_per_step

RESERVED_BYTES = 1.5 * GIB
"""GPU memory lost to the driver's context and to fragmentation."""

THIS_RECIPE = "this recipe"
FITS = "fits"


@dataclass(frozen=True)
class ArmPlan:
    """The plan of one arm.

    Attributes:
        tokens_per_row, detached_tokens_per_row: Mean tokens of the forward with gradient, and without.
        flops_per_step: FLOPs of an optimizer step on all devices, with loss dropout at its expectation.
        ratio: `flops_per_step` over that of SFT.
        hours: Hours of the whole training; None if the device's speed is unknown.
    """

    tokens_per_row: float
    detached_tokens_per_row: float
    flops_per_step: float
    ratio: float
    hours: Estimate | None


@dataclass(frozen=True)
class MemoryPlan:
    """Peak bytes on one device.

    Attributes:
        peak: Peaks of three micro-batches: the median one, the largest one drawn, and the longest rows together.
        by_kind: The expected peak by kind: weights, gradients, optimizer, activations, logits, communication, and
            averages for an averaged target.
    """

    peak: Estimate
    by_kind: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """The cost of a recipe.

    Attributes:
        rows: Training rows that are kept.
        is_sample: Whether rows and tokens were counted on a sample.
        scores_labels_only: Whether TRL's head scores only labelled positions, as on GPUs; on CPUs it scores all.
        view_tokens: Sequence -> mean tokens per row.
        left_out: Arm that training would refuse -> why. The recipe itself and SFT are never left out.
        memory: Memory of one device.
        activation_bytes: Layout -> activations of the recipe in it.
        verdict: Whether the recipe fits on the GPU; None without a GPU.
    """

    rows: int
    is_sample: bool
    layout: str
    scores_labels_only: bool
    steps: int
    view_tokens: dict[str, float]
    arms: dict[str, ArmPlan]
    left_out: dict[str, str]
    memory: MemoryPlan
    activation_bytes: dict[str, float]
    verdict: str | None


def make_plan(
    recipe: Recipe,
    gpu: GPU | None = None,
    num_devices: int = 1,
    launch: Launch = "single",
    calibration: Calibration | None = None,
    sft_calibration: Calibration | None = None,
    *,
    begin: Callable[[str], None] = lambda stage: None,
) -> Plan:
    """Plan a recipe.

    Args:
        calibration: Timed steps of the recipe on one device; else the usual shares of the GPU's peak are assumed.
        sft_calibration: Timed steps of the SFT arm. Arms that were not timed have the recipe's FLOPs per second.
        begin: Called with the name of each stage as it begins.

    Raises:
        ValueError: Training would refuse the recipe, or SFT on its rows; there are more devices than rows, or the
            recipe uses bf16 and the GPU does not support it.
    """
    labels_only = calibration is None or calibration.is_on_gpu
    begin("reading the rows")
    own = draw_workload(recipe, launch, labels_only)
    rows = round(own.prepared.total_rows * len(own.prepared.rows) / own.prepared.num_rows)
    check_devices(recipe.training.bf16, rows, gpu, num_devices)
    steps, step_rows = (
        planned_steps(rows, recipe.training, num_devices),
        rows_per_step(rows, recipe.training, num_devices),
    )
    dropout = recipe.training.jepa_dropout if recipe.training.jepa_weight > 0 else 0.0
    drawn, left_out = _draw_arms(recipe, own, begin)
    arms, sft_flops, own_flops = _count_arms(drawn, step_rows, dropout, begin)
    assumed = None if gpu is None else _peak_rate(own, gpu)
    measured = None if calibration is None else _measured_rate(calibration, own_flops, sft_flops)
    rates = dict.fromkeys(arms, assumed if measured is None else measured)
    if sft_calibration is not None:
        rates[SFT] = sft_calibration.rows_per_second * sft_flops
    begin("counting the memory")
    memory = plan_memory(own, launch, num_devices)
    with_hours = {
        name: _with_hours(arm, steps / num_devices, rates[name], calibration is not None) for name, arm in arms.items()
    }
    return Plan(
        rows=rows,
        is_sample=own.prepared.is_partial,
        layout=own.prepared.layout_reason,
        scores_labels_only=labels_only,
        steps=steps,
        view_tokens=_view_tokens(own),
        arms=with_hours,
        left_out=left_out,
        memory=memory,
        activation_bytes=_activations_by_layout(own, launch),
        verdict=None if gpu is None else verdict(memory, gpu),
    )


def _draw_arms(
    recipe: Recipe, own: Workload, begin: Callable[[str], None]
) -> tuple[dict[str, Workload], dict[str, str]]:
    """The workload of each arm, and why each of the others cannot be trained."""
    drawn: dict[str, Workload] = {}
    left_out: dict[str, str] = {}
    for name in arm_names(recipe, own.prepared.is_tokenised):
        begin(f"reading the rows of {name}")
        try:
            drawn[name] = draw_workload(with_arm(recipe, name), own.launch, own.scores_labels_only)
        except ValueError as error:
            if name == SFT:
                raise
            left_out[name] = str(error)
    return drawn | {THIS_RECIPE: own}, left_out


def _count_arms(
    drawn: dict[str, Workload], step_rows: float, dropout: float, begin: Callable[[str], None]
) -> tuple[dict[str, ArmPlan], float, float]:
    """The plans of the arms without hours, and the FLOPs of a row that keeps its JEPA term: SFT's and the recipe's."""
    row_flops: dict[str, float] = {}
    for name, arm in drawn.items():
        begin(f"counting the FLOPs of {name}")
        row_flops[name] = arm.flops_per_row()
    arms: dict[str, ArmPlan] = {}
    for name, arm in drawn.items():
        share = dropout if name == THIS_RECIPE else 0.0
        flops = (1 - share) * row_flops[name] + share * row_flops[SFT]
        arms[name] = ArmPlan(*arm.tokens_per_row(), flops * step_rows, flops / row_flops[SFT], None)
    return arms, row_flops[SFT], row_flops[THIS_RECIPE]


def _measured_rate(calibration: Calibration, own_flops: float, sft_flops: float) -> float:
    """FLOPs per second of the timed steps, some of which dropped the JEPA term."""
    share = calibration.dropped_share
    return calibration.rows_per_second * ((1 - share) * own_flops + share * sft_flops)


def _with_hours(arm: ArmPlan, steps_per_device: float, rate: float | None, is_measured: bool) -> ArmPlan:
    if rate is None:
        return arm
    hours = (hours_at_rate if is_measured else hours_at_peak)(arm.flops_per_step * steps_per_device, rate)
    return replace(arm, hours=hours)


def check_devices(uses_bf16: bool | None, rows: int, gpu: GPU | None, num_devices: int) -> None:
    """Check that a recipe can train on such devices.

    Raises:
        ValueError: There are more devices than rows, or the recipe uses bf16 and the GPU does not support it.
    """
    if num_devices > rows:
        raise ValueError(
            f"{num_devices} devices are more than the {rows} rows of the training data. Use fewer devices."
        )
    if gpu is not None and uses_bf16 and not gpu.has_bf16:
        raise ValueError("This GPU does not support bf16. Plan and train with `--bf16 false --fp16 true`.")


def plan_memory(drawn: Workload, launch: Launch, num_devices: int) -> MemoryPlan:
    """The peak memory of one device."""
    usual, largest = drawn.batches[len(drawn.batches) // 2], drawn.batches[-1]
    peaks = [
        drawn.model.memory(drawn.inputs(rows), launch, num_devices) for rows in (usual, largest, drawn.longest_rows())
    ]
    low, expected, high = sorted(peaks, key=lambda peak: sum(peak.values()))
    return MemoryPlan(Estimate(*(sum(peak.values()) for peak in (low, expected, high))), expected)


def usable_bytes(gpu: GPU) -> float:
    """The bytes of a GPU's memory that tensors can use."""
    return gpu.memory_bytes - RESERVED_BYTES


def verdict(memory: MemoryPlan, gpu: GPU) -> str:
    """Whether a recipe's memory fits on a GPU."""
    room = usable_bytes(gpu)
    if memory.peak.high <= room:
        return FITS
    return "does not fit" if memory.peak.expected > room else "fits, unless the longest rows meet in one micro-batch"


def _peak_rate(drawn: Workload, gpu: GPU) -> float:
    return gpu.peak_flops_per_second(drawn.model.half is not None, bool(drawn.recipe.training.tf32))


def _view_tokens(drawn: Workload) -> dict[str, float]:
    """Mean tokens per row of the conversation, the labels, and the views if the rows have any."""
    rows = drawn.prepared.rows
    columns = {"conversation": "input_ids", "source": "source_ids", "target": "target_ids"}
    means: dict[str, float] = {}
    for name, column in columns.items():
        if column in rows.column_names:
            means[name] = sum(map(len, rows[column])) / len(rows)
    means["labels"] = sum(sum(label != IGNORED_LABEL for label in labels) for labels in rows["labels"]) / len(rows)
    return means


def _activations_by_layout(drawn: Workload, launch: Launch) -> dict[str, float]:
    """Activation bytes of the largest micro-batch, in the recipe's layout and in `rows`."""
    args = drawn.recipe.training
    own = drawn.prepared.collator.layout
    if args.jepa_weight == 0 or not needs_views(args.jepa_objective) or own is None:
        return {}
    found: dict[str, float] = {}
    for name in dict.fromkeys((own.name, "rows")):
        settings: dict[str, Any] = drawn.recipe.settings | {"jepa_layout": name}
        other = draw_workload(build_recipe(drawn.recipe.path, settings), launch, True)
        found[name] = other.model.peak_bytes(other.inputs(other.batches[-1]))["activations"]
    return found
